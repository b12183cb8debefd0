"""Training as a pure function: matured rows in, a packaged model with its gate's verdict out."""

from trimtab.trainer.core.rows import Cut, cut, matured
from trimtab.trainer.core.training import Job, Known, Trained, train

__all__ = ["Cut", "Job", "Known", "Trained", "cut", "matured", "train"]
