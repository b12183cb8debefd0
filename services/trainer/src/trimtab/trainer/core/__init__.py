"""Training as a pure function: matured rows in, a packaged model with its gate's verdict out."""

from trimtab.trainer.core.rows import Cut, cut, matured
from trimtab.trainer.core.training import Begun, Job, Known, Train, Trained, train, unheard

__all__ = ["Begun", "Cut", "Job", "Known", "Train", "Trained", "cut", "matured", "train", "unheard"]
