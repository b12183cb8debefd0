"""Route and aggregate: events in, tiles out, the same whatever the batches and however often they are tried."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from trimtab.contracts import control, envelope, telemetry, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.feature.adapters import LoopTimes, TilesView
from trimtab.feature.stages import MOST_BYTES, aggregate_stage, route_stage, stages
from trimtab.loops.groups import tile_groups
from trimtab.loops.model import Loop
from trimtab.loops.online import OnlineStore
from trimtab.loops.tile_records import decode, decode_grouped, decode_key
from trimtab.loops.tiles import by_digest
from trimtab.runtime import marks
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Out, Record
from trimtab.testing.declarations import offers
from trimtab.testing.stages import data, run_stages
from trimtab.testing.steps import as_read, run_step, tables_of

HOUR = 3_600_000
NOON = 1_700_049_600_000
FEATURES = {
    "groups": {
        "place": {"of": "offer", "by": ["place"], "windows": ["1h"], "values": {"n": "count()", "mean": "avg(price)"}},
        "clicks": {"of": "click", "by": ["offer_id"], "windows": ["2h"], "values": {"n": "count()"}},
    },
    "latest": {"last": {"of": "offer", "by": ["place"], "values": ["price"], "max_age": "1h"}},
}


@pytest.fixture(scope="module")
def loop() -> Loop:
    return offers(features=FEATURES, loop={"catch_up": "1h"})


def event(loop: Loop, name: str, body: dict[str, Any], at_ms: int, offset: int = 0) -> Record:
    value = AvroCodec(loop.events[name].schema).encode(body)
    return Record(topics.events("offers", name), 0, offset, b"k", value, envelope.headers("i", name, "test", at_ms))


def shown(loop: Loop, number: int, place: str | None, price: float, at_ms: int) -> Record:
    body = {"offer_id": str(number), "shown_at": at_ms, "place": place, "price": price}
    return event(loop, "offer", body, at_ms, number)


def offered(loop: Loop) -> list[Record]:
    places = ["top", "side", "top", None, "foot"]
    return [shown(loop, number, place, float(number), NOON + number * 1000) for number, place in enumerate(places)]


def ended(loop: Loop) -> list[Out]:
    """What ingest says of every partition when nothing more comes."""
    found = [marks.Mark(f"{topics.group('ingest', 'dedupe', 'offers')}-{task}", None) for task in range(2)]
    return [
        Out(topics.events("offers", name), marks.key_of(mark.task), None, marks.headers_of(mark), partition)
        for name in loop.events
        for partition in range(2)
        for mark in found
    ]


def reached(at_ms: int) -> LoopTimes:
    """The loop as a whole has come so far."""
    times = LoopTimes()
    times.apply([advanced(at_ms)])
    return times


def advanced(at_ms: int) -> Record:
    """What the monitor says of it."""
    value = control.encode(control.TimeAdvanced(loop="offers", at_ms=at_ms))
    return Record(topics.TIME_ADVANCED, 0, 0, b"offers", value, ())


def route(loop: Loop, records: Sequence[Record]) -> Sequence[Out]:
    by_topic: dict[str, list[Record]] = {}
    for record in records:
        by_topic.setdefault(record.topic, []).append(record)
    return run_step(route_stage(loop), by_topic).out


def test_every_event_comes_to_the_partition_of_its_key(loop: Loop) -> None:
    outs = route(loop, offered(loop))
    groups = {group.digest: group for group in tile_groups(loop)}
    assert {out.topic for out in outs} == {topics.grouped("offers")}
    for out in outs:
        assert out.key is not None
        assert groups[out.key.decode()].of == "offer"
    store = OnlineStore(groups.values())
    for partition in (0, 1):
        mine = [record for record in as_read(outs, partitions=2) if record.partition == partition]
        held = tables_of(aggregate_stage(loop, LoopTimes()))
        run_step(aggregate_stage(loop, LoopTimes()), {topics.grouped("offers"): mine}, held)
        places = [place for place, _ in held["tiles"].items()]
        assert all(partition_of(key.encode(), 2) == partition for _, key, _ in places)
        store.put(list(held["tiles"].items()))
    place = next(group for group in groups.values() if group.name == "place")
    found = store.finish(place.digest, ["top", "side", "foot"], np.array([NOON + 10_000] * 3))
    assert found.values["n"][:, 0].tolist() == [2.0, 1.0, 1.0]
    assert found.values["mean"][0, 0] == 1.0


@given(
    places=st.lists(st.sampled_from(["top", "side", None]), min_size=1, max_size=12),
    cuts=st.lists(st.integers(0, 12), max_size=12),
)
@example(places=[None], cuts=[])
def test_how_events_are_cut_into_batches_does_not_matter(loop: Loop, places: list[str | None], cuts: list[int]) -> None:
    records = [shown(loop, number, place, float(number), NOON + number) for number, place in enumerate(places)]
    edges = [0, *sorted({cut for cut in cuts if cut < len(records)}), len(records)]
    batches = [records[start:end] for start, end in pairwise(edges) if start < end]
    assert given_to_groups(loop, batches) == given_to_groups(loop, [records])


def given_to_groups(loop: Loop, batches: Sequence[Sequence[Record]]) -> dict[tuple[str, int | None], list[Any]]:
    """Keys, times and arguments of the events that each partition of each group is given, in their order."""
    groups = by_digest(tile_groups(loop))
    found: dict[tuple[str, int | None], list[Any]] = {}
    for out in (out for batch in batches for out in route(loop, batch)):
        events = decode_grouped(out.value or b"", groups)
        assert events is not None
        arguments = [series.to_list() for series in events.arguments]
        given = zip(events.keys, events.at_ms.tolist(), *arguments, strict=True)
        found.setdefault((events.digest, out.partition), []).extend(given)
    return found


def test_long_texts_in_a_long_batch_are_parted_into_records_of_bounded_size() -> None:
    latest = {"last": {"of": "offer", "by": ["place"], "values": ["offer_id", "place"], "max_age": "1h"}}
    loop = offers(features={"categorical": ["place", "last_offer_id", "last_place"], "latest": latest})
    batch = [shown(loop, number, f"{number % 3}{'x' * 1_000}", 1.0, NOON + number) for number in range(1_500)]
    outs = run_step(route_stage(loop), {topics.events("offers", "offer"): batch}).out
    assert len(outs) > 3
    assert max(len(out.value or b"") for out in outs) <= MOST_BYTES
    groups = by_digest(tile_groups(loop))
    read = [decode_grouped(out.value or b"", groups) for out in outs]
    assert sorted(int(at) for events in read if events for at in events.at_ms) == [NOON + n for n in range(1_500)]


def test_the_same_batch_twice_gives_the_same(loop: Loop) -> None:
    records = offered(loop)
    assert route(loop, records) == route(loop, records)
    stage, grouped = aggregate_stage(loop, LoopTimes()), as_read(route(loop, records))
    before = tables_of(stage)
    run_step(stage, {topics.grouped("offers"): grouped[:2]}, before)
    results = []
    for _ in range(2):
        tables = tables_of(stage)
        for place, tile in before["tiles"].items():
            tables["tiles"].put(place, tile)
        run_step(stage, {topics.grouped("offers"): grouped[2:]}, tables, progress_ms=NOON)
        results.append(dict(tables["tiles"].items()))
    assert results[0] == results[1]


def test_tiles_that_no_ask_may_see_get_a_tombstone(loop: Loop) -> None:
    stage = aggregate_stage(loop, reached(NOON + 5 * HOUR))
    tables = tables_of(stage)
    grouped = as_read(route(loop, [shown(loop, 1, "top", 1.0, NOON), shown(loop, 2, "top", 2.0, NOON + 2 * HOUR)]))
    run_step(stage, {topics.grouped("offers"): grouped}, tables, progress_ms=NOON + HOUR)
    assert len(tables["tiles"]) == 4
    run_step(stage, {}, tables, progress_ms=NOON + 3 * HOUR + 20 * 60_000)
    assert len(tables["tiles"]) == 2
    late = as_read(route(loop, [shown(loop, 3, "top", 1.0, NOON)]))
    result = run_step(stage, {topics.grouped("offers"): late}, tables, progress_ms=NOON + 5 * HOUR)
    assert len(tables["tiles"]) == 0
    assert sum(one.value for one in result.measures if one.metric == telemetry.FEATURE_LATE) == 2
    assert sum(one.value for one in result.measures if one.metric == telemetry.FEATURE_CONTRIBUTIONS) == 0


def test_tiles_of_a_year_go_step_by_step_also_after_a_restart(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.feature.stages.LEAST_GONE", 3)
    stage = aggregate_stage(loop, reached(NOON + 90 * HOUR))
    tables = tables_of(stage)
    grouped = as_read(route(loop, [shown(loop, at, f"place {at}", 1.0, NOON) for at in range(10)]))
    run_step(stage, {topics.grouped("offers"): grouped}, tables, progress_ms=NOON)
    left = []
    for _ in range(4):
        run_step(stage, {}, tables, progress_ms=NOON + 90 * HOUR)
        left.append(len(tables["tiles"]))
    again = aggregate_stage(loop, reached(NOON + 90 * HOUR))
    for _ in range(4):
        run_step(again, {}, tables, progress_ms=NOON + 90 * HOUR)
        left.append(len(tables["tiles"]))
    assert left == [17, 14, 11, 8, 5, 2, 0, 0]


@pytest.mark.parametrize(("times", "left"), [(None, 4), (HOUR, 4), (3 * HOUR + 20 * 60_000, 2)])
def test_tiles_stay_until_the_loop_as_a_whole_has_passed_them(loop: Loop, times: int | None, left: int) -> None:
    stage = aggregate_stage(loop, LoopTimes() if times is None else reached(NOON + times))
    tables = tables_of(stage)
    grouped = as_read(route(loop, [shown(loop, 1, "top", 1.0, NOON), shown(loop, 2, "top", 2.0, NOON + 2 * HOUR)]))
    run_step(stage, {topics.grouped("offers"): grouped}, tables, progress_ms=NOON + 2 * HOUR)
    run_step(stage, {}, tables, progress_ms=NOON + 3 * HOUR + 20 * 60_000)
    assert len(tables["tiles"]) == left


def test_a_batch_of_many_days_loses_none_of_them(loop: Loop) -> None:
    stage = aggregate_stage(loop, reached(NOON))
    tables = tables_of(stage)
    days = [shown(loop, day, "top", 1.0, NOON + day * 24 * HOUR) for day in range(4)]
    grouped = as_read(route(loop, days))
    result = run_step(stage, {topics.grouped("offers"): grouped}, tables, progress_ms=NOON + 4 * 24 * HOUR)
    assert sum(one.value for one in result.measures if one.metric == telemetry.FEATURE_LATE) == 0
    assert len(tables["tiles"]) == 8


def test_a_loop_that_was_deleted_and_declared_again_begins_anew() -> None:
    times = reached(NOON + HOUR)
    times.apply([advanced(NOON)])
    assert times.reached_ms("offers") == NOON
    times.forget("offers")
    assert times.reached_ms("offers") is None


def test_a_time_that_was_written_by_hand_against_the_schema_is_passed_over() -> None:
    times = reached(NOON)
    times.apply([Record(topics.TIME_ADVANCED, 0, at, b"offers", value, ()) for at, value in enumerate([b"{", None])])
    assert (times.reached_ms("offers"), times.reached_ms("other")) == (NOON, None)


def test_a_latest_value_that_a_newer_one_hides_is_dropped(loop: Loop) -> None:
    patient = offers(
        features={"latest": {"last": {"of": "offer", "by": ["place"], "values": ["price"], "max_age": "30d"}}},
        loop={"catch_up": "1h"},
    )
    stage = aggregate_stage(patient, reached(NOON + 7 * HOUR))
    tables = tables_of(stage)
    records = [shown(patient, number, "top", float(number), NOON + number * 2 * HOUR) for number in range(4)]
    grouped = as_read(route(patient, records))
    run_step(stage, {topics.grouped("offers"): grouped}, tables, progress_ms=NOON + 7 * HOUR)
    held = [tile.tile_ms for _, tile in tables["tiles"].items()]
    assert len(held) == 2
    store = OnlineStore(tile_groups(patient))
    store.put(list(tables["tiles"].items()))
    (group,) = tile_groups(patient)
    found = store.finish(group.digest, ["top"] * 2, np.array([NOON + 6 * HOUR, NOON + 7 * HOUR]))
    assert found.values["price"][:, 0].tolist() == [2.0, 3.0]


def test_a_loop_without_groups_needs_no_stages() -> None:
    assert stages(offers(), LoopTimes()) == []


async def test_both_stages_on_a_bus_leave_tiles_that_a_view_can_serve(loop: Loop) -> None:
    click = {"click_id": "c", "offer_id": "7", "clicked_at": NOON}
    records = [*offered(loop), event(loop, "click", click, NOON)]
    written = [Out(record.topic, record.key, record.value, record.headers, 0) for record in records]
    bus = await run_stages(stages(loop, LoopTimes()), [*written, *ended(loop)])
    online = data(bus, topics.online("offers"))
    view = TilesView(loop, tile_groups(loop))
    view.apply(online)
    clicks = next(group for group in tile_groups(loop) if group.name == "clicks")
    found = view.store.finish(clicks.digest, ["7", "8"], np.array([NOON + HOUR] * 2))
    assert found.values["n"][:, 0].tolist() == [1.0, 0.0]
    assert view.store.newest_ms == NOON + 4000
    for record in online:
        assert decode(record.value or b"").place == decode_key(record.key or b"")
        assert record.partition == partition_of(decode_key(record.key or b"")[1].encode(), 2)
