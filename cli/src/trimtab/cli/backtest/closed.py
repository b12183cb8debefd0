"""The closed loop over recorded events, in virtual time: the services' own cores, one after the other.

Event time advances a slice at a time, no longer than a fit takes, so that whatever is decided inside a slice takes
effect after it, as in a replay (docs/adr/0003).
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.cli.backtest.recorded import Recording, labels_between
from trimtab.cli.backtest.rows import History
from trimtab.contracts import times
from trimtab.contracts.control import (
    DeploymentChanged,
    LoopDeclared,
    ModelRegistered,
    ModelTrained,
    RetrainRequested,
    TrainingFailed,
)
from trimtab.loops import declaration
from trimtab.loops.labels import LabelEvents
from trimtab.loops.model import Loop
from trimtab.ml import training
from trimtab.ml.scoring import Scorer, Scores
from trimtab.monitor.core.predictions import NO_MODEL, Predictions, Shadows
from trimtab.monitor.core.routing import Arrivals
from trimtab.monitor.core.whole import LoopMonitor
from trimtab.predictor.core import Deployment, Deployments, Model
from trimtab.registry import core as registry
from trimtab.retrain_controller import core as controller
from trimtab.trainer.adapters.work import gate_fields, model_fields, reference_fields
from trimtab.trainer.core import Job, Known, Trained, train
from trimtab.trainer.errors import TrainingError

HOUR_MS = 3_600_000
NO_DIGEST = "0" * 64
Event = Any
"""A control event; each core takes those that it knows."""
Told = Callable[[int], None]
Said = tuple[NDArray[np.intp], int, Scores]
"""Of which rows, which version, what: [rows, width]."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a run. `scores`: the champion's per ask, see `History.unscored`. `events`: all control events in
    their order. `fit_s`: the fits' seconds of CPU.
    """

    scores: Scores
    events: Sequence[Event]
    fits: int
    fit_s: float


@dataclass(slots=True)
class Control:
    """The control plane: events to and from the controller, the trainer and the registry. Mutable, one run's."""

    loop: Loop
    history: History
    history_ms: int | None
    deciding: controller.State
    registering: registry.State
    deployed: Deployments = field(default_factory=Deployments)
    models: dict[str, Known] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    fits: int = 0
    fit_s: float = 0.0

    def hear(self, event: Event) -> list[Event]:
        """Take in an event and all that follows from it; gives them all, in order."""
        heard, waiting = [], deque([event])
        while waiting:
            one = waiting.popleft()
            heard.append(one)
            if isinstance(one, controller.Event):
                self.deciding, decided = controller.decide(self.deciding, one)
                waiting += decided
            if isinstance(one, registry.Event):
                self.registering, said = registry.fold(self.registering, one)
                waiting += said
            if isinstance(one, RetrainRequested):
                waiting.append(self._trained(one))
            if isinstance(one, DeploymentChanged):
                self.deployed = self.deployed.with_one(self._deployment(one))
        self.events += heard
        return heard

    def _trained(self, request: RetrainRequested) -> ModelTrained | TrainingFailed:
        """The trainer's answer."""
        champion, first = self._serving(), self.models.get(self._first_digest() or "")
        rows = self.history.matured(request.at_ms, self.history_ms)
        try:
            trained = train(Job(self.loop, request.at_ms, champion, first), rows)
        except TrainingError as error:
            return TrainingFailed(
                loop=self.loop.name,
                at_ms=request.at_ms,
                request_id=request.request_id,
                reason=error.reason,
                error=str(error),
            )
        self.fits += trained.fits
        self.fit_s += trained.fit_s
        package = trained.package
        until_ms = int(trained.rows.at_ms[-1])
        self.models[package.digest] = Known(0, Scorer.load(package.format, package.blob), until_ms)
        return model_trained(self.loop, request, trained)

    def _serving(self) -> Known | None:
        newest = self.deployed.newest()
        if newest is None or newest.champion is None:
            return None
        return replace(self.models[newest.champion.digest], version=newest.champion.version)

    def _first_digest(self) -> str | None:
        first = [one for one in self.events if isinstance(one, DeploymentChanged) and one.cause == "first"]
        return first[0].champion.digest if first and first[0].champion else None

    def _deployment(self, event: DeploymentChanged) -> Deployment:
        def model(ref: Any) -> Model:
            self.models[ref.digest] = replace(self.models[ref.digest], version=ref.version)
            return Model(
                ref.version, ref.digest, tuple(ref.classes or ()), self.models[ref.digest].scorer, ref.until_ms
            )

        champion = None if event.champion is None else model(event.champion)
        return Deployment(event.sequence, event.effective_at_ms, champion, [model(ref) for ref in event.shadows])


def model_trained(loop: Loop, request: RetrainRequested, trained: Trained) -> ModelTrained:
    """The trainer's event, of rows that stand in no log."""
    rows = trained.rows
    binary = loop.task == "binary"
    return ModelTrained.model_validate(
        {
            "loop": loop.name,
            "at": times.text(request.at_ms),
            "request_id": request.request_id,
            "cause_kind": request.cause.kind,
            "model": model_fields(loop, trained),
            "dataset": {
                "cluster_id": "backtest",
                "ranges": [],
                "rows": len(rows),
                "positives": int(rows.labels.sum()) if binary else None,
                "digest": rows.digest(),
                "blob": NO_DIGEST,
                "first_at": times.text(int(rows.at_ms[0])),
                "last_at": times.text(int(rows.at_ms[-1])),
            },
            "metrics": dict(trained.metrics),
            "gate": gate_fields(loop, trained),
            "reference": reference_fields(trained.reference),
            "fits": trained.fits,
            "seed": 0,
            "code_version": "backtest",
            "lock_digest": NO_DIGEST,
            "environment": training.environment(),
            "wall_s": 0.0,
            "signature": "",
        }
    )


def run(recording: Recording, history_ms: int | None, told: Told = lambda _: None) -> Ran:
    """The declared loop over a recording; `history_ms` replaces `[train] window`."""
    history = recording.history
    loop, asks = history.loop, history.asks
    control = Control(loop, history, history_ms, controller.State(loop.name), registry.State(loop.name))
    control.hear(declared(loop))
    monitor = LoopMonitor(loop)
    scores = history.unscored(len(asks))
    slice_ms = min(loop.train.fit_time_ms or HOUR_MS, 24 * HOUR_MS)
    start_ms = int(asks.at_ms[0]) // slice_ms * slice_ms
    last_ms = max(int(some[-1]) for some in recording.times.values() if len(some))
    while start_ms <= last_ms:
        end_ms = start_ms + slice_ms
        rows = np.arange(*np.searchsorted(asks.at_ms, [start_ms, end_ms]))
        asked = predicted(recording, rows, control.deployed)
        scores[rows] = champions(history, asked, control.models)
        arrived = {
            name: some[slice(*np.searchsorted(some, [start_ms, end_ms]))]
            for name, some in recording.times.items()
            if name != loop.predict.on or name == loop.label.of
        }
        arrivals = Arrivals([asked] if len(asked) else [], arrived)
        said = monitor.step(arrivals, labels_in(recording.labels, start_ms, end_ms), end_ms - 1)
        for event in said.events:
            for one in control.hear(event):
                if isinstance(one, ModelTrained):
                    monitor.trained(one)
        told(end_ms)
        start_ms = end_ms
    return Ran(scores, control.events, control.fits, control.fit_s)


def declared(loop: Loop) -> LoopDeclared:
    """The event that declares the loop."""
    body, schemas = declaration.declared(loop)
    return LoopDeclared.model_validate(
        {
            "loop": loop.name,
            "at": times.text(0),
            "version": max(loop.version, 1),
            "digest": loop.digest,
            "declaration": body,
            "schemas": schemas,
            "partitions": loop.partitions,
            "topics": [],
            "by": "backtest",
        }
    )


def predicted(recording: Recording, rows: NDArray[np.int64], deployed: Deployments) -> Predictions:
    """The predictions of some asks, as the predictor would log them."""
    part = recording.history.asks.take(rows)
    n = len(part)
    version, sequence = np.full(n, NO_MODEL, np.int64), np.full(n, -1, np.int64)
    digests: dict[int, str] = {}
    champions, shadows = list[Said](), list[Said]()
    for deployment, where in deployed.runs(part.at_ms):
        if deployment is None or deployment.champion is None:
            continue
        vectors = part.take(where)
        version[where], sequence[where] = deployment.champion.version, deployment.sequence
        for model, said in ((deployment.champion, champions), *((shadow, shadows) for shadow in deployment.shadows)):
            digests[model.version] = model.digest
            said.append((where, model.version, wide(model.scorer.score(vectors))))  # type: ignore[arg-type] # a dataset has a vector's columns
    width = max([1, *(some.shape[1] for _, _, some in (*champions, *shadows))])
    scores = np.full((n, width), np.nan)
    for where, _, some in champions:
        scores[where] = np.pad(some, ((0, 0), (0, width - some.shape[1])))
    return Predictions(
        key=part.keys.tolist(),
        by=[recording.by[row] for row in rows.tolist()],
        at_ms=part.at_ms,
        offset=rows.astype(np.int64),
        version=version,
        sequence=sequence,
        digests=digests,
        scores=scores,
        numbers=part.numbers,
        categories=part.categories,
        streamed=np.ones(n, np.bool_),
        shadows=in_rows(shadows, width),
    )


def champions(history: History, asked: Predictions, models: Mapping[str, Known]) -> Scores:
    """What the champions said, see `History.unscored`. `models`: by digest."""
    scores = history.unscored(len(asked))
    for version in np.unique(asked.version[asked.version != NO_MODEL]).tolist():
        those, classes = np.flatnonzero(asked.version == version), models[asked.digests[version]].scorer.spec.classes
        said = asked.scores[those]
        scores[those] = history.in_columns(said[:, : len(classes)], classes) if classes else said[:, 0]
    return scores


def wide(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, width], one column for a single score."""
    return scores[:, None] if scores.ndim == 1 else scores


def in_rows(said: Sequence[Said], width: int) -> Shadows:
    """What shadows said, in the order of the predictions."""
    if not said:
        return Shadows(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, width)))
    row = np.concatenate([where for where, _, _ in said]).astype(np.int64)
    version = np.concatenate([np.full(len(where), number, np.int64) for where, number, _ in said])
    scores = np.zeros((len(row), width))
    first = 0
    for where, _, some in said:
        scores[first : first + len(where), : some.shape[1]] = some
        first += len(where)
    order = np.argsort(row, kind="stable")
    return Shadows(row[order], version[order], scores[order])


def labels_in(labels: LabelEvents, from_ms: int, until_ms: int) -> LabelEvents:
    """The label events of a slice."""
    return labels_between(labels, bisect_left(labels.at_ms, from_ms), bisect_left(labels.at_ms, until_ms))


def models_registered(events: Sequence[Event]) -> int:
    """How many models were trained and numbered."""
    return sum(isinstance(event, ModelRegistered) for event in events)
