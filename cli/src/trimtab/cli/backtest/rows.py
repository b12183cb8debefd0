"""A loop's history as columns: every vector that was asked for, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trimtab.loops.model import Loop
from trimtab.ml import metrics
from trimtab.ml.datasets import Dataset
from trimtab.ml.scoring import Scores
from trimtab.trainer.core.rows import Outcomes, matured, newest

FOREVER_MS = 2**62


@dataclass(frozen=True)
class History:
    """`asks`: all vectors, sorted by at_ms. `outcomes`: what became of them, each revision of its own."""

    loop: Loop
    asks: Dataset
    outcomes: Outcomes

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Every class that a label ever was, sorted: what the columns of scores stand for (multiclass), else empty.

        No model knows another one, for each learned from these labels.
        """
        multiclass = self.loop.task == "multiclass"
        return tuple(sorted(set(self.outcomes.labels[self.outcomes.labelled].tolist()))) if multiclass else ()

    @cached_property
    def labels(self) -> NDArray[np.float64]:
        """[n] the final label of each ask as metrics take it; NaN without one.

        Binary: 0/1, regression: the value, multiclass: the position among `classes`.
        """
        found = np.full(len(self.asks), np.nan)
        last = newest(self.outcomes, FOREVER_MS)
        last = last[self.outcomes.labelled[last]]
        labels = self.outcomes.labels[last]
        multiclass = self.loop.task == "multiclass"
        numbers = metrics.codes(labels.astype(object), self.classes) if multiclass else labels.astype(np.float64)
        found[self.outcomes.row[last]] = numbers
        return found

    def unscored(self, count: int) -> Scores:
        """[count], or [count, classes] (multiclass), of NaN: scores where no model served."""
        return np.full((count, len(self.classes)) if self.loop.task == "multiclass" else count, np.nan)

    def in_columns(self, scores: Scores, classes: Sequence[str]) -> Scores:
        """What a model of those classes said, in the columns of `classes`: 0 for a class that it did not know.

        Losses stay what they are for the model itself: to it a label of such a class was impossible as well.
        """
        if self.loop.task != "multiclass":
            return scores
        found = np.zeros((len(scores), len(self.classes)))
        found[:, [self.classes.index(name) for name in classes]] = scores
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
