"""A loop's history as columns: every vector that was asked for, and what became of it."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trimtab.loops.model import Loop
from trimtab.ml.datasets import Dataset
from trimtab.trainer.core.rows import Outcomes, matured, newest

FOREVER_MS = 2**62


@dataclass(frozen=True)
class History:
    """`asks`: all vectors, sorted by at_ms. `outcomes`: what became of them, each revision of its own."""

    loop: Loop
    asks: Dataset
    outcomes: Outcomes

    @cached_property
    def labels(self) -> NDArray[np.float64]:
        """[n] the final label of each ask as metrics take it (binary: 0/1, regression: the value); NaN without one."""
        found = np.full(len(self.asks), np.nan)
        last = newest(self.outcomes, FOREVER_MS)
        last = last[self.outcomes.labelled[last]]
        found[self.outcomes.row[last]] = self.outcomes.labels[last].astype(np.float64)
        return found

    def matured(self, at_ms: int, history_ms: int | None) -> Dataset:
        """The rows to train on at an event time; `history_ms` None: all of them."""
        loop = replace(self.loop, train=replace(self.loop.train, window_ms=history_ms))
        return matured(loop, self.asks, self.outcomes, at_ms)

    def first_due_ms(self) -> int | None:
        """The first event hour at which `[train] first_after` is met; None: never."""
        hour, loop = 3_600_000, self.loop
        last = newest(self.outcomes, FOREVER_MS)
        last = last[self.outcomes.labelled[last] & ~self.outcomes.suspect[last]]
        ready = np.maximum(
            self.asks.at_ms[self.outcomes.row[last]] + loop.label.mature_ms, self.outcomes.settled_at_ms[last]
        )
        order = np.argsort(ready, kind="stable")
        ready = ready[order]
        enough = len(ready) >= loop.train.first_rows
        due = [int(ready[loop.train.first_rows - 1])] if enough and loop.train.first_rows else []
        if loop.task == "binary" and loop.train.first_positives:
            positive = ready[self.outcomes.labels[last][order].astype(np.float64) > 0]
            enough &= len(positive) >= loop.train.first_positives
            due += [int(positive[loop.train.first_positives - 1])] if enough else []
        return -(-max(due) // hour) * hour if enough and due else None
