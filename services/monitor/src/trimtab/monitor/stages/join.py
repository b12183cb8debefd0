"""`monitor.join`: predictions meet their labels; outcomes, and what they show, come out."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from trimtab.contracts import envelope, telemetry, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.data import SCHEMAS
from trimtab.loops.columns import event_columns
from trimtab.loops.labels import Asks, LabelEvents, LabelJoin, LabelWindow
from trimtab.loops.model import Loop
from trimtab.monitor.core import joining
from trimtab.monitor.core.joining import Joinables, Joined, JoinState, Spans
from trimtab.monitor.core.ledger import Tip
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.core.predictions import NO_MODEL
from trimtab.monitor.stages import encoding
from trimtab.monitor.stages.encoding import Writing
from trimtab.monitor.stages.rhythm import COMMIT_INTERVAL_MS, LIVE_INTERVAL_MS
from trimtab.runtime.records import Out, Read
from trimtab.runtime.stage import Batch, Input, Measure, Output, Result, Stage, Tables, View

SERVICE, VERB = "monitor", "join"
MOST_RECORDS = 8
"""In a batch: each may hold the asks and labels of a whole batch of route's."""
_OUTCOME = AvroCodec(SCHEMAS["outcome"])


class Holds(Protocol):
    """The holds of the loop's stream."""

    def spans(self) -> Spans:
        """The stretches of asking time that are suspect, one that stands without end."""
        ...


def join_stage(loop: Loop, holds: Holds, views: Sequence[View]) -> Stage:
    """The stage of one loop. `views` keep `holds`."""
    route = {topics.group(SERVICE, "route", loop.name): loop.partitions}
    return Stage(
        group=topics.group(SERVICE, VERB, loop.name),
        changelog=topics.changelog(SERVICE, VERB, loop.name),
        partitions=loop.partitions,
        inputs=[Input(topics.joinable(loop.name), "marks", route, SCHEMAS["joinable"])],
        outputs=[Output(topics.outcomes(loop.name), loop.partitions), Output(topics.signals(loop.name), 1)],
        tables=joining.SPECS,
        views=views,
        step=Join(loop, holds),
        max_batch=MOST_RECORDS,
        commit_interval_ms=COMMIT_INTERVAL_MS,
        live_interval_ms=LIVE_INTERVAL_MS,
    )


class Join:
    """The step. Beside its tables it keeps an index over them for each partition, made anew when the tables are."""

    def __init__(self, loop: Loop, holds: Holds) -> None:
        self._loop, self._plan, self._holds = loop, plan_of(loop), holds
        self._window = LabelWindow(loop.label, event_columns(loop.events[loop.label.of]), loop.task)
        self._joins: dict[int, tuple[object, LabelJoin]] = {}
        self._group = topics.group(SERVICE, VERB, loop.name)

    def __call__(self, partition: int, tables: Tables, batch: Batch) -> Result:
        """Fold what came, close what is due."""
        state = JoinState(tables)
        labels = self._join_of(partition, state)
        records = batch.records.get(topics.joinable(self._loop.name), ())
        read = [encoding.joinable(record) for record in records]
        joined = joining.join(
            self._plan,
            state,
            labels,
            _together([new for new, _ in read]),
            spans=self._holds.spans(),
            progress_ms=batch.progress_ms,
        )
        tips = [tip for _, tip in read if tip is not None]
        out = list(self._outcomes(joined, partition))
        if len(joined.outcomes):
            out += self._signals(joined, partition, records, tips)
        return Result(out=out, measures=self._measures(joined, partition, labels))

    def _join_of(self, partition: int, state: JoinState) -> LabelJoin:
        owner, labels = self._joins.get(partition, (None, None))
        if labels is None or owner is not state.chunks:
            labels = joining.opened_join(self._plan, state, self._window)
            self._joins[partition] = (state.chunks, labels)
        return labels

    def _outcomes(self, joined: Joined, partition: int) -> Iterator[Out]:
        outcomes, carried = joined.outcomes, joined.carried
        topic, task = topics.outcomes(self._loop.name), f"{self._group}-{partition}"
        scores = carried.scores.max(axis=1, initial=-np.inf).tolist()
        places = zip(carried.partition.tolist(), carried.offset.tolist(), carried.version.tolist(), scores, strict=True)
        for i, (predicted_in, offset, version, score) in enumerate(places):
            label, known_class = outcomes.label[i], outcomes.label_class[i]
            key, settled_ms, revision = outcomes.key[i], outcomes.settled_at_ms[i], outcomes.revision[i]
            value = {
                "key": key,
                "prediction_partition": predicted_in,
                "prediction_offset": offset,
                "at_ms": outcomes.at_ms[i],
                "settled_at_ms": settled_ms,
                "status": "no_label" if known_class is None and label != label else "labelled",
                "label": None if label != label else label,
                "label_class": known_class,
                "revision": revision,
                "version": None if version == NO_MODEL else version,
                "score": None if version == NO_MODEL else score,
                "suspect": joined.suspect[i],
            }
            headers = envelope.headers(f"{key}#{revision}", "outcome", task, settled_ms)
            yield Out(topic, key.encode(), _OUTCOME.encode(value), headers)

    def _signals(self, joined: Joined, partition: int, records: Sequence[Read], tips: Sequence[Tip]) -> Sequence[Out]:
        last = records[-1].offset if records else joined.outcomes.settled_at_ms[-1]
        at_ms = max(joined.outcomes.settled_at_ms)
        writing = Writing(self._loop.name, f"{self._group}-{partition}", f"{last}", at_ms)
        return encoding.signals(writing, joined.shown, (), tips)

    def _measures(self, joined: Joined, partition: int, labels: LabelJoin) -> Sequence[Measure]:
        loop = {"loop": self._loop.name}
        task = {**loop, "partition": str(partition)}
        first = [i for i, revision in enumerate(joined.outcomes.revision) if revision == 0]
        unlabelled = joined.counts.without_label
        counted = (
            (telemetry.MONITOR_OUTCOMES, len(first) - unlabelled, {**loop, "status": "labelled"}),
            (telemetry.MONITOR_OUTCOMES, unlabelled, {**loop, "status": "no_label"}),
            (telemetry.MONITOR_REVISIONS, len(joined.outcomes) - len(first), loop),
            (telemetry.MONITOR_LABELS_LATE, joined.counts.late, loop),
            (telemetry.MONITOR_LABELS_REPEATED, joined.counts.repeated, loop),
            (telemetry.MONITOR_LABELS_CORRECTED, joined.counts.corrected, loop),
        )
        return [
            Measure(telemetry.MONITOR_PENDING, labels.waiting, task),
            Measure(telemetry.MONITOR_LABELS_HELD, joined.silent, task),
            *(Measure(metric, count, attributes) for metric, count, attributes in counted if count),
        ]


def _together(parts: Sequence[Joinables]) -> Joinables:
    """All batches as one, in their order."""
    asks = [part.asks for part in parts]
    events = [part.events for part in parts]
    return Joinables(
        Asks(*([v for a in asks for v in getattr(a, name)] for name in ("key", "by", "at_ms", "payload"))),
        LabelEvents(
            *([v for e in events for v in getattr(e, name)] for name in ("by", "at_ms", "id", "numbers", "texts"))
        ),
        source=[one for part in parts for one in part.source],
        classes=[one for part in parts for one in part.classes],
    )
