"""The three stages over records: what goes in comes out, once, whatever the batches; and as in one process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trimtab.contracts import control, data, envelope, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.control import DriftDetected, PerformanceMeasured, Reference, ReferenceSignal
from trimtab.contracts.prediction import prediction_schema
from trimtab.loops.labels import LabelEvents
from trimtab.loops.model import Loop
from trimtab.monitor.adapters import ModelsView, QualityView, SchemasView
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.observe import Named, merged
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.core.routing import Arrivals
from trimtab.monitor.core.rows import Rows
from trimtab.monitor.core.stretches import HeldStretches
from trimtab.monitor.core.whole import LoopMonitor
from trimtab.monitor.stages import detect_stage, encoding, join_stage, route_stage
from trimtab.monitor.stages.decoding import PredictionReader, rejected
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Out, Record
from trimtab.runtime.stage import UNKNOWN_MS, Result, Stage
from trimtab.runtime.table import Table
from trimtab.testing import run_step, tables_of
from trimtab.testing.declarations import offers
from trimtab.testing.models import trained

HOUR, DAY = 3_600_000, 86_400_000
LATE = 10 * 60_000
A, B = "a" * 64, "b" * 64
LOOP = offers(
    loop={"lateness": "10m"},
    label={"within": "2h", "settle": "first"},
    quality={"hold_when": {"unseen_category": "5%", "rejected": "5%"}},
    gate={"block": "6h", "holdout": "2d", "watch": "1d", "baselines": ["constant"]},
    drift={"false_alarms": "1 per 60d", "season": "1d"},
)
TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"


def reference(loop: Loop) -> Reference:
    """What a stationary stream of `asked` shows, in hourly looks over two weeks."""
    rng = np.random.default_rng(0)
    hours = 14 * 24
    kinds = {
        "score": ("score", 0.4 + 0.03 * rng.standard_normal(hours)),
        "feature:price": ("feature", 10 + 0.4 * rng.standard_normal(hours)),
        "missing:place": ("missing", np.zeros(hours)),
        "unseen:place": ("unseen", np.zeros(hours)),
        "loss": ("loss", 0.66 + 0.03 * rng.standard_normal(hours)),
    }
    signals = {
        name: ReferenceSignal(kind=kind, means=means.tolist(), counts=[30] * hours)
        for name, (kind, means) in kinds.items()
    }
    signals["feature:place"] = ReferenceSignal(kind="feature", means=[], counts=[], categories=["top", "side"])
    return Reference(look_ms=HOUR, season_ms=DAY, from_ms=-14 * DAY, signals=signals)


def model(digest: str = A) -> control.ModelTrained:
    return trained("r", digest=digest).model_copy(update={"reference": reference(LOOP)})


@dataclass(frozen=True)
class Call:
    """One call of a step."""

    stage: Stage
    partition: int
    records: Mapping[str, Sequence[Record]]
    progress_ms: int
    result: Result


class Cluster:
    """The three stages on tables that survive their encoders; topics are lists, progress is the caller's."""

    def __init__(self, loop: Loop = LOOP) -> None:
        self.loop, plan = loop, plan_of(loop)
        self.watch, self.stretches, self.schemas = Watch(plan), HeldStretches(), SchemasView()
        self.models = ModelsView(plan, self.watch)
        self.route = route_stage(loop, self.models, self.schemas, [self.models])
        self.join = join_stage(loop, self.stretches, [])
        self.detect = detect_stage(loop, self.watch, [self.models])
        self.tables = {
            (stage.group, p): tables_of(stage)
            for stage in (self.route, self.join, self.detect)
            for p in range(stage.partitions)
        }
        self.offsets: dict[tuple[str, int], int] = {}
        self.control: list[Out] = []
        self.outcomes: list[Mapping[str, Any]] = []
        self.seen: Callable[[Call], None] = lambda _: None

    def knows(self, digest: str = A) -> None:
        self.models.apply([Record("t", 0, 0, b"offers", control.encode(model(digest)))])

    def restart(self) -> None:
        """Restore every table from what was written."""
        for tables in self.tables.values():
            for name, table in list(tables.items()):
                fresh: Table[Any, Any] = Table(table.spec)
                for key, value in reversed(list(table.items())):  # a changelog keeps no order of keys
                    fresh.load(table.spec.encode_key(key), table.spec.encode(value))
                tables[name] = fresh
        self.watch = Watch(plan_of(self.loop))

    def placed(self, outs: Sequence[Out], topic: str, partitions: int) -> dict[int, list[Record]]:
        """What was written to a topic, by partition, as it would be read."""
        found: dict[int, list[Record]] = {p: [] for p in range(partitions)}
        for out in outs:
            if out.topic == topic:
                p = out.partition if out.partition is not None else partition_of(out.key or b"", partitions)
                offset = self.offsets.get((topic, p), 0)
                self.offsets[topic, p] = offset + 1
                found[p].append(Record(topic, p, offset, out.key, out.value, out.headers))
        return found

    def run(self, stage: Stage, p: int, records: Mapping[str, Sequence[Record]], progress_ms: int) -> Result:
        result = run_step(stage, records, self.tables[stage.group, p], progress_ms=progress_ms, partition=p)
        self.seen(Call(stage, p, records, progress_ms, result))
        return result

    def step(self, records: Mapping[tuple[str, int], Sequence[Record]], progress_ms: int) -> None:
        """Records by topic and partition through all stages."""
        name, routed, joined = self.loop.name, list[Out](), list[Out]()
        for p in range(self.loop.partitions):
            mine = {topic: those for (topic, q), those in records.items() if q == p}
            routed += self.run(self.route, p, mine, progress_ms).out
        joinable = self.placed(routed, topics.joinable(name), self.loop.partitions)
        for p, those in joinable.items():
            joined += self.run(self.join, p, {topics.joinable(name): those}, progress_ms).out
        self.outcomes += [_outcome(out) for out in joined if out.topic == topics.outcomes(name)]
        signals = self.placed([*routed, *joined], topics.signals(name), 1)[0]
        said = self.run(self.detect, 0, {topics.signals(name): signals}, progress_ms).out
        self.control += said
        for out in said:
            record = Record(out.topic, 0, 0, out.key, out.value, out.headers)
            for topic in (topics.QUALITY_VIOLATED, topics.QUALITY_RESTORED):
                if out.topic == topic:
                    QualityView(topic, name, self.stretches).apply([record])

    def events(self, kind: type[Any]) -> list[Any]:
        found = [control.decode(out.topic, out.value or b"") for out in self.control]
        return [event for event in found if isinstance(event, kind)]


def _outcome(out: Out) -> Mapping[str, Any]:
    return data.codec(data.Outcome).decode(out.value or b"")


NUMBERS, CATEGORIES = ["price"], ["place"]
SCHEMA = prediction_schema("offers", LOOP.features.names, categorical=CATEGORIES)
PREDICTION, CLICK = AvroCodec(SCHEMA), AvroCodec(LOOP.events["click"].schema)


def prediction(key: str, at_ms: int, offset: int, **values: Any) -> Record:
    value = {
        "key": key,
        "at_ms": at_ms,
        "features": {"place": "top", "price": 10.0},
        "ages_ms": {},
        "features_as_of_ms": at_ms,
        "features_digest": A,
        "score": 0.4,
        "class": None,
        "probabilities": [],
        "arm": "champion",
        "version": 1,
        "model_digest": A,
        "deployment": 1,
        "shadows": [],
        "origin": "stream",
        "declaration_version": 1,
        "by": [key],
        **values,
    }
    p = partition_of(key.encode(), LOOP.partitions)
    headers = envelope.headers(key, "prediction", "t", at_ms, values.pop("trace", None))
    return Record(topics.predictions("offers"), p, offset, key.encode(), PREDICTION.encode(value), headers)


def click(key: str, offer: str, at_ms: int, offset: int, trace: str | None = None) -> Record:
    value = {"click_id": key, "offer_id": offer, "clicked_at": at_ms}
    p = partition_of(key.encode(), LOOP.partitions)
    headers = envelope.headers(key, "click", "t", at_ms, trace)
    return Record(topics.events("offers", "click"), p, offset, key.encode(), CLICK.encode(value), headers)


def asked(hours: int, *, late_from: int = 10**9, seed: int = 1) -> list[list[Record]]:
    """Per hour thirty predictions, and the clicks of that hour; from `late_from` on there are far more clicks."""
    rng = np.random.default_rng(seed)
    found: list[list[Record]] = [[] for _ in range(hours + 2)]
    for hour in range(hours):
        for i in range(30):
            at = hour * HOUR + i * 60_000
            key, score = f"o{hour}-{i}", float(np.clip(0.4 + 0.16 * rng.standard_normal(), 0.02, 0.98))
            features = {"place": str(rng.choice(["top", "side"])), "price": float(10 + 2.2 * rng.standard_normal())}
            shadow = {"version": 7, "model_digest": A, "score": 0.5, "class": None, "probabilities": []}
            found[hour].append(prediction(key, at, hour * 30 + i, features=features, score=score, shadows=[shadow]))
            if rng.random() < (0.95 if hour >= late_from else score):
                after = at + 1 + int(rng.integers(0, 90 * 60_000))
                found[after // HOUR].append(click(f"c{key}", key, after, hour * 30 + i))
    return found[:hours]


def batch(hours: Sequence[Sequence[Record]]) -> dict[tuple[str, int], list[Record]]:
    found: dict[tuple[str, int], list[Record]] = {}
    for record in (r for those in hours for r in those):
        found.setdefault((record.topic, record.partition), []).append(record)
    return found


def feed(cluster: Cluster, hours: Sequence[Sequence[Record]], step: int = 1) -> Cluster:
    for first in range(0, len(hours), step):
        some = hours[first : first + step]
        cluster.step(batch(some), (first + len(some)) * HOUR)
    return cluster


def ready(loop: Loop = LOOP) -> Cluster:
    cluster = Cluster(loop)
    cluster.knows()
    return cluster


def test_predictions_come_in_as_columns() -> None:
    shadow = {"version": 7, "model_digest": B, "score": 0.5, "class": None, "probabilities": []}
    records = [
        prediction("a", 5, 3, features={"place": None, "price": 2.5}, shadows=[shadow]),
        prediction("b", 6, 4, score=None, version=None, model_digest=None, deployment=None, arm="none", origin="http"),
    ]
    (found,) = PredictionReader(LOOP, SchemasView()).read(records)
    assert (list(found.key), list(found.by)) == (["a", "b"], ["a", "b"])
    assert (found.at_ms.tolist(), found.offset.tolist()) == ([5, 6], [3, 4])
    assert (found.version.tolist(), found.sequence.tolist()) == ([1, 0], [1, -1])
    assert found.digests == {1: A, 7: B}
    assert found.scores[0, 0] == 0.4
    assert np.isnan(found.scores[1, 0])
    assert found.numbers.tolist() == [[2.5], [10.0]]
    assert found.categories.tolist() == [[None], ["top"]]
    assert found.streamed.tolist() == [True, False]
    assert (found.shadows.row.tolist(), found.shadows.version.tolist(), found.shadows.scores.tolist()) == (
        [0],
        [7],
        [[0.5]],
    )


def test_probabilities_of_classes_come_in_as_wide_as_the_widest() -> None:
    loop = offers(loop={"task": "multiclass"}, label={"value": "last(click_id)"}, train={"first_after": {"rows": 1000}})
    shadow = {"version": 7, "model_digest": B, "score": 0.6, "class": "x", "probabilities": [0.6, 0.4]}
    told = {"class": "y", "probabilities": [0.1, 0.2, 0.7], "score": 0.7}
    shadow_said = {name: shadow[name] for name in told}
    told_beside = shadow | told
    (found,) = PredictionReader(loop, SchemasView()).read([prediction("a", 5, 3, **told, shadows=[shadow])])
    assert found.scores.tolist() == [[0.1, 0.2, 0.7]]
    assert found.shadows.scores.tolist() == [[0.6, 0.4, 0.0]]
    (turned,) = PredictionReader(loop, SchemasView()).read(
        [prediction("a", 5, 3, **shadow_said, shadows=[told_beside])]
    )
    assert turned.scores.tolist() == [[0.6, 0.4, 0.0]]
    assert turned.shadows.scores.tolist() == [[0.1, 0.2, 0.7]]


def test_predictions_of_an_earlier_declaration_lack_what_was_not_declared() -> None:
    old = prediction_schema("offers", ["price"])
    view = SchemasView()
    published = control.PublishedSchema(fingerprint=AvroCodec(old).fingerprint.hex(), schema_=old, by="t")
    view.apply([Record("schemas", 0, 0, b"k", control.encode(published))])
    value = PREDICTION.decode(prediction("a", 5, 3).value or b"") | {"features": {"price": 1.0}}
    record = Record("t", 0, 3, b"a", AvroCodec(old).encode(value))
    found = PredictionReader(LOOP, view).read([record, prediction("b", 5, 4)])
    assert [part.categories.tolist() for part in found] == [[[None]], [["top"]]]


def test_every_prediction_becomes_one_outcome_that_points_at_it() -> None:
    cluster = feed(ready(), asked(20), step=4)
    feed_end = {(o["key"], o["revision"]) for o in cluster.outcomes}
    assert len(feed_end) == len(cluster.outcomes) >= 17 * 30
    for outcome in cluster.outcomes[:50]:
        hour, i = map(int, outcome["key"][1:].split("-"))
        assert outcome["prediction_offset"] == hour * 30 + i
        assert outcome["prediction_partition"] == partition_of(outcome["key"].encode(), 2)
        assert outcome["at_ms"] == hour * HOUR + i * 60_000
        assert outcome["status"] == "labelled"
        assert outcome["version"] == 1
        assert 0 < outcome["score"] < 1
        assert not outcome["suspect"]


def test_a_drift_of_the_labels_is_found_through_all_stages_with_its_trace() -> None:
    hours = asked(66, late_from=48)
    for those in hours:
        for at, record in enumerate(those):
            if record.topic == topics.events("offers", "click"):
                those[at] = msgspec.structs.replace(record, headers=(*record.headers, ("traceparent", TRACE.encode())))
    cluster = feed(ready(), hours, step=2)
    drift: DriftDetected = cluster.events(DriftDetected)[0]
    assert drift.signals[0].name == "loss"
    assert 48 * HOUR <= drift.at_ms <= 60 * HOUR
    assert abs(drift.since_ms - 48 * HOUR) <= 3 * HOUR
    out = next(o for o in cluster.control if o.topic == topics.DRIFT_DETECTED)
    assert envelope.get(out.headers, "traceparent") == TRACE.encode()
    assert envelope.get(out.headers, "ce_id") == drift.drift_id.encode()


def test_a_control_event_without_a_sampled_cause_begins_a_trace() -> None:
    cluster = feed(ready(), asked(3))
    assert cluster.control
    for out in cluster.control:
        trace = envelope.get(out.headers, "traceparent")
        assert (trace is None) == (out.topic == topics.TIME_ADVANCED), "nothing has happened when time advances"
        assert trace is None or (len(trace) == 55 and trace.endswith(b"-01"))


def test_predictions_of_a_model_that_is_not_known_yet_wait_and_hold_progress_back() -> None:
    cluster = Cluster()
    result = cluster.run(cluster.route, 0, {topics.predictions("offers"): [prediction("a", 5 * HOUR, 0)]}, 9 * HOUR)
    assert [out.topic for out in result.out] == []
    assert result.progress_ms == 5 * HOUR - 1
    cluster.knows()
    later = cluster.run(cluster.route, 0, {}, 9 * HOUR)
    assert {out.topic for out in later.out} == {topics.joinable("offers"), topics.signals("offers")}
    assert later.progress_ms is None


@pytest.mark.parametrize("stage", ["route", "join", "detect"])
def test_a_batch_that_is_run_twice_gives_the_same(stage: str) -> None:
    """A failed transaction throws tables away and runs the batch again over what was there before."""
    cluster = ready()
    hours = asked(40, late_from=20)
    feed(cluster, hours[:-4], step=6)
    saved = {at: _written(tables) for at, tables in cluster.tables.items()}
    calls = list[Call]()
    cluster.seen = calls.append
    cluster.step(batch(hours[-4:]), 40 * HOUR)
    mine = [call for call in calls if call.stage is getattr(cluster, stage)]
    assert mine
    for call in mine:
        results = [
            run_step(
                call.stage,
                call.records,
                _restored(call.stage, saved[call.stage.group, call.partition]),
                progress_ms=call.progress_ms,
                partition=call.partition,
            )
            for _ in range(2)
        ]
        assert results[0].out == results[1].out == call.result.out
        assert results[0].progress_ms == results[1].progress_ms


def _written(tables: Mapping[str, Table[Any, Any]]) -> dict[str, list[tuple[bytes, bytes]]]:
    """Every entry as it stands in the changelog."""
    return {n: [(t.spec.encode_key(k), t.spec.encode(v)) for k, v in t.items()] for n, t in tables.items()}


def _restored(stage: Stage, entries: Mapping[str, Sequence[tuple[bytes, bytes]]]) -> dict[str, Table[Any, Any]]:
    tables = tables_of(stage)
    for name, written in entries.items():
        for key, value in written:
            tables[name].load(key, value)
    return tables


def test_the_same_in_one_process_and_in_three_stages() -> None:
    hours = asked(52, late_from=36)
    cluster = feed(ready(), hours, step=4)
    monitor = LoopMonitor(LOOP)
    monitor.trained(model())
    said, settled = list[Any](), list[tuple[str, float, int, int, int]]()
    reader = PredictionReader(LOOP, SchemasView())
    for hour, those in enumerate(hours):
        asks = [r for r in those if r.topic == topics.predictions("offers")]
        clicks = [CLICK.decode(r.value or b"") for r in those if r.topic != topics.predictions("offers")]
        ids = [int(c["click_id"].removeprefix("co").replace("-", "")) for c in clicks]
        times = np.array([c["clicked_at"] for c in clicks], np.int64)
        labels = LabelEvents(
            [c["offer_id"] for c in clicks], times.tolist(), ids, [[] for _ in clicks], [[] for _ in clicks]
        )
        told = monitor.step(Arrivals(reader.read(asks), {"click": times}), labels, (hour + 1) * HOUR)
        said += told.events
        o = told.joined.outcomes
        settled += list(zip(o.key, o.label, o.revision, o.at_ms, o.settled_at_ms, strict=True))
    live = [control.decode(out.topic, out.value or b"") for out in cluster.control]
    assert live == said
    assert {type(event) for event in said} >= {DriftDetected, PerformanceMeasured}
    assert sorted(settled) == sorted(
        (o["key"], o["label"], o["revision"], o["at_ms"], o["settled_at_ms"]) for o in cluster.outcomes
    )


@settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 30), max_size=4), st.booleans())
def test_batches_and_restarts_do_not_matter(cuts: list[int], restart: bool) -> None:
    hours = asked(30, late_from=20)
    plain = feed(ready(), hours, step=3)
    cluster = ready()
    for first, last in pairwise(sorted({0, 30, *cuts})):
        cluster.step(batch(hours[first:last]), last * HOUR)
        if restart:
            cluster.restart()
            cluster = _reborn(cluster)
    assert [out.value for out in cluster.control] == [out.value for out in plain.control]
    key = lambda o: (o["key"], o["revision"])  # noqa: E731
    assert sorted(cluster.outcomes, key=key) == sorted(plain.outcomes, key=key)


def _reborn(old: Cluster) -> Cluster:
    """The same tables and topics in a new process."""
    new = ready(old.loop)
    new.tables, new.offsets, new.control, new.outcomes = old.tables, old.offsets, old.control, old.outcomes
    return new


def refused(event: str, rule: str, at_ms: int, offset: int) -> Record:
    value = data.Rejected(
        event=event,
        rule=rule,
        reason="",
        source_topic="t",
        source_partition=0,
        source_offset=offset,
        original=b"x" * 100,
        wall_ms=0,
        event_time_ms=at_ms,
    )
    headers = envelope.headers("i", "rejected", "ingest", at_ms)
    return Record(topics.rejected("offers"), 0, offset, b"i", data.encode(value), headers)


def test_rejected_events_count_when_they_happened_and_old_ones_now() -> None:
    records = [refused("offer", "quality", 5, 0), refused("offer", "too_old", 1, 1), refused("click", "schema", 7, 2)]
    assert {event: at.tolist() for event, at in rejected(records, 99).items()} == {"offer": [5, 99], "click": [7]}


def test_a_stream_that_is_rejected_is_held_and_its_outcomes_become_suspect() -> None:
    hours = asked(40)
    for hour in range(20, 26):
        hours[hour] += [refused("offer", "quality", hour * HOUR + i, hour * 60 + i) for i in range(30)]
    cluster = feed(ready(), hours)
    violated: control.QualityViolated = cluster.events(control.QualityViolated)[0]
    restored: control.QualityRestored = cluster.events(control.QualityRestored)[0]
    assert (violated.rule, violated.subject, violated.since_ms) == ("rejected", "offer", 20 * HOUR)
    newest = {o["key"]: o for o in sorted(cluster.outcomes, key=lambda o: o["revision"])}
    suspect = {o["at_ms"] // HOUR for o in newest.values() if o["suspect"]}
    assert suspect == set(range(20, -(-restored.at_ms // HOUR)))
    assert any(o["revision"] > 0 and o["suspect"] for o in newest.values()), "found after some had settled"


def test_what_many_hours_show_goes_into_records_that_stay_small() -> None:
    hour = np.arange(50_000, dtype=np.int64) * HOUR
    one = np.ones_like(hour)
    named = Named(["score"], Rows(hour, hour, one, one * 0, one * 0, one, hour))
    outs = encoding.signals(encoding.Writing("offers", "t", "1", 0), named, (), ())
    assert all(len(out.value or b"") < 500_000 for out in outs)
    read = [encoding.seen(Record(out.topic, 0, 0, None, out.value, out.headers)).named for out in outs]
    assert np.array_equal(merged(read).rows.seen_ms, hour)


def test_every_hour_of_a_batch_keeps_a_record_that_a_trace_may_lead_on_from() -> None:
    traces = {(hour, i): f"00-{hour + 1:032x}-{i + 1:016x}-01" for hour in range(3) for i in range(2)}
    records = [prediction(f"{hour}-{i}", hour * HOUR + i, 0, trace=one) for (hour, i), one in traces.items()]
    tips = encoding.tips_of([*records, prediction("plain", 5 * HOUR, 0)])
    assert [(tip.at_ms, tip.traceparent) for tip in tips] == [(h * HOUR + 1, traces[h, 1]) for h in range(3)]
    zero = np.zeros(1, np.int64)
    named = Named(["score"], Rows(zero, zero, zero, zero, zero, zero + 1, zero))
    outs = encoding.signals(encoding.Writing("offers", "t", "1", 0), named, (), tips)
    seen = [encoding.seen(Record(out.topic, 0, 0, None, out.value, out.headers)) for out in outs]
    assert [one.tip for one in seen] == list(tips)
    assert [len(one.named.rows) for one in seen] == [1, 0, 0]


def test_progress_before_anything_is_known_says_nothing() -> None:
    cluster = ready()
    cluster.step({}, UNKNOWN_MS)
    assert cluster.control == []
