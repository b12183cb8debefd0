"""What becomes of trained models: a pure function of what was heard so far and one more event.

Each trained model gets the next number of its loop. One that passed its gate becomes champion at the time of its
request plus the loop's `fit_time`; its predecessor scores along for the watch and comes back by itself when it is
clearly better.
"""

from trimtab.registry.core.folding import Event, Said, fold
from trimtab.registry.core.rollout import UNSIGNED, ended
from trimtab.registry.core.state import State

__all__ = ["UNSIGNED", "Event", "Said", "State", "ended", "fold"]
