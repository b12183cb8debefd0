"""All three steps of the monitor in one process, on columns instead of records: for the backtest.

Live, the same functions run in three stages; what they say does not depend on cuts and order, so both say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.contracts.control import ModelTrained, QualityRestored, QualityViolated
from trimtab.loops.columns import event_columns
from trimtab.loops.labels import NO_EVENTS, Asks, LabelEvents, LabelWindow
from trimtab.loops.model import Loop
from trimtab.monitor.core import detection, joining, ledger, routing
from trimtab.monitor.core.detection import Event
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.joining import Joinables, Joined, JoinState
from trimtab.monitor.core.observe import KnownModel
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.core.predictions import Predictions, deployments
from trimtab.monitor.core.references import Reference, reference_of
from trimtab.monitor.core.routing import Arrivals
from trimtab.monitor.core.settled import payloads
from trimtab.monitor.core.stretches import HeldStretches
from trimtab.runtime.table import Table


@dataclass(frozen=True, slots=True)
class Told:
    """What a step said: outcomes with what their asks carried, and control events in event-time order."""

    joined: Joined
    events: Sequence[Event]


class LoopMonitor:
    """The monitor of one loop. Mutable: it holds the state of all three steps.

    Tell it of models (`trained`) before predictions of theirs come.
    """

    def __init__(self, loop: Loop) -> None:
        self._plan = plan_of(loop)
        self.window = LabelWindow(loop.label, event_columns(loop.events[loop.label.of]), loop.task)
        self._state = JoinState({spec.name: Table(spec) for spec in joining.SPECS})
        self._labels = joining.opened_join(self._plan, self._state, self.window)
        self._ledger, self._watch = ledger.empty(), Watch(self._plan)
        self._stretches = HeldStretches()
        self._references: dict[str, Reference] = {}

    def trained(self, event: ModelTrained) -> None:
        """Know one more model."""
        self._references[event.model.digest] = reference_of(self._plan, event)
        self._watch.add(event.model.digest, self._references[event.model.digest])

    def step(self, arrivals: Arrivals, labels: LabelEvents, progress_ms: int, partition: int = 0) -> Told:
        """Take in what came, and say what the progress allows. `partition`: of the predictions."""
        shown = routing.shown(self._plan, arrivals, self._known)
        seen = [one for part in arrivals.predictions for one in deployments(part)]
        detection.absorb(self._ledger, shown, seen, None)
        joined = joining.join(
            self._plan,
            self._state,
            self._labels,
            Joinables(
                _asks(arrivals.predictions, partition),
                labels if len(labels.by) else NO_EVENTS,
                routing.source(self._plan, arrivals),
                list(routing.classes(self._plan, arrivals.predictions, self._known).items()),
            ),
            spans=self._stretches.spans(),
            progress_ms=progress_ms,
        )
        detection.absorb(self._ledger, joined.shown, (), None)
        events = [said.event for said in detection.advance(self._plan, self._ledger, self._watch, progress_ms)]
        for event in events:
            if isinstance(event, QualityViolated):
                self._stretches.begin(event)
            elif isinstance(event, QualityRestored):
                self._stretches.end(event)
        return Told(joined, events)

    def _known(self, digest: str) -> KnownModel | None:
        found = self._references.get(digest)
        return None if found is None else found.known


def _asks(predictions: Sequence[Predictions], partition: int) -> Asks:
    asked = [part.take(np.flatnonzero(np.array([by != "" for by in part.by], np.bool_))) for part in predictions]
    return Asks(
        [key for part in asked for key in part.key],
        [by for part in asked for by in part.by],
        [at for part in asked for at in part.at_ms.tolist()],
        [load for p in asked for load in payloads(partition, p.offset, p.version, p.scores, p.shadows)],
    )
