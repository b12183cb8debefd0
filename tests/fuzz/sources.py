"""What users write to source topics: each is accepted once, or in quarantine with its reason and its bytes."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from hypothesis import strategies as st
from trimtab.contracts import data, envelope, topics
from trimtab.ingest.stages import Edges, accept_stage, contracts_of, dedupe_stage
from trimtab.loops.incoming.candidates import LARGEST_EVENT
from trimtab.loops.incoming.ports import no_registry
from trimtab.runtime.records import Headers, Read, Record
from trimtab.runtime.stage import UNKNOWN_MS, Result
from trimtab.store.blobs import MemoryBlobs
from trimtab.testing import as_read, run_step, tables_of

from tests.fuzz.entry import Check, Counted, Entry, LostError
from tests.fuzz.shop import CODECS, EVENTS, IDS, LOOP, NOW_MS, STORED, right
from tests.fuzz.values import (
    DEEP,
    HEADERS,
    HUGE_VALUES,
    JSON,
    KEYS,
    TIMES,
    damaged,
    dumped,
    mutated,
    rarely,
)


class Sent(NamedTuple):
    """A record in a source topic. `id`: of an event that is right and has to get through; None: whatever it is."""

    event: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    id: object = None


def _values(event: str) -> st.SearchStrategy[bytes | None]:
    """Mostly wrong ones."""
    skewed = st.builds(
        lambda at, number: dumped(
            {**EVENTS[event], "ordered_at" if event == "order" else "booked_at": at, "n": number}
        ),
        TIMES,
        st.integers(0, 3),
    )
    framed = st.builds(
        lambda head, body: head + body,
        st.sampled_from([b"\xc3\x01", b"\xc3\x01" + b"\x01" * 8, b"\0\0\0\0\x07", CODECS[event].head]),
        st.binary(max_size=60),
    )
    return st.one_of(
        mutated(EVENTS[event]).map(dumped),
        mutated(EVENTS[event]).map(dumped),
        skewed.map(lambda value: value.replace(b', "n": 0', b"")),
        damaged(st.just(dumped(dict(EVENTS[event])))),
        damaged(st.just(CODECS[event].encode(STORED[event]))),
        framed,
        DEEP,
        JSON.map(dumped),
        st.binary(max_size=40),
        st.none(),
    )


@st.composite
def sent(draw: st.DrawFn) -> Sent:
    """A record, right or wrong."""
    event = draw(st.sampled_from(["order", "order", "refund"]))
    if draw(st.integers(0, 3)) == 0:
        id_, value = draw(right(event))
        return Sent(event, draw(KEYS), value, (), id_)
    headers = draw(HEADERS) if draw(st.booleans()) else ()
    return Sent(event, draw(KEYS), draw(_values(event)), headers)


@st.composite
def large(draw: st.DrawFn) -> Sent:
    """A record that is larger than an event may be."""
    return Sent("order", None, draw(HUGE_VALUES), ())


INPUTS = rarely(sent(), large(), 1_500)


def placed(batch: Sequence[Sent], *, first: int = 1) -> Mapping[str, Sequence[Record]]:
    """The records of a batch at their places, behind one that sets each event's clock."""
    found: dict[str, list[Record]] = {topics.source("shop", event): [] for event in EVENTS}
    for topic, (event, known) in zip(found, EVENTS.items(), strict=True):
        value = dumped({**known, IDS[event]: "first" if event == "order" else 2**41})
        found[topic].append(Record(topic, 0, 0, None, value, (), NOW_MS))
    for offset, one in enumerate(batch, first):
        topic = topics.source("shop", one.event)
        found[topic].append(Record(topic, 0, offset, one.key, one.value, one.headers, NOW_MS))
    return found


@contextmanager
def _ingest() -> Iterator[Check]:
    blobs = MemoryBlobs()
    edges = Edges(blobs.put, 0.5)
    accept = accept_stage(LOOP, contracts_of(LOOP, no_registry), edges)
    dedupe = dedupe_stage(LOOP, edges)

    def check(batch: Sequence[Sent]) -> Counted:
        given = placed(batch)
        first = run_step(accept, given, tables_of(accept), now_ms=NOW_MS)
        quarantined = _quarantined(first, given, blobs)
        passed = [out for out in first.out if out.topic != topics.rejected("shop")]
        if len(passed) + len(quarantined) != sum(map(len, given.values())):
            raise LostError(f"{len(passed)} accepted and {len(quarantined)} rejected")
        by_topic: dict[str, Sequence[Read]] = {
            topic: as_read(passed, topic=topic) for topic in {out.topic for out in passed}
        }
        second = run_step(dedupe, by_topic, tables_of(dedupe), now_ms=NOW_MS, progress_ms=UNKNOWN_MS)
        _check_good(batch, second)
        return Counted(len(passed) - len(EVENTS), len(quarantined))

    yield check


def _quarantined(result: Result, given: Mapping[str, Sequence[Read]], blobs: MemoryBlobs) -> Sequence[data.Rejected]:
    """What stands in quarantine, each once, with the bytes of the record that it came in."""
    sources = {(record.topic, record.offset): record.value for some in given.values() for record in some}
    found = [data.decode(data.Rejected, out.value or b"") for out in result.out if out.topic == topics.rejected("shop")]
    for one in found:
        original = one.original if one.blob is None else blobs.get(one.blob)
        if original != (sources.pop((one.source_topic, one.source_offset)) or b"") or not one.reason.strip():
            raise LostError(f"{one.source_topic} {one.source_offset} is in quarantine with other bytes or no reason")
    return found


def _check_good(batch: Sequence[Sent], result: Result) -> None:
    """The events that are right are there once for each id; all that is there can be read by its schema."""
    ids: dict[str, Counter[object]] = {event: Counter() for event in EVENTS}
    for event in EVENTS:
        for out in result.out:
            if out.topic == topics.events("shop", event):
                ids[event][CODECS[event].decode(out.value or b"")[IDS[event]]] += 1
                envelope.event_time_ms(out.headers)
                if len(out.value or b"") > 8 * LARGEST_EVENT:
                    raise LostError("an event that no broker takes")
    for one in batch:
        if one.id is not None and ids[one.event][one.id] != 1 and one.event == "order":
            raise LostError(
                f"order {one.id!r} is there {ids['order'][one.id]} times: {json.dumps(list(map(str, ids['order'])))}"
            )
        if one.id is not None and ids[one.event][one.id] < 1:
            raise LostError(f"refund {one.id!r} is not there")


def entries() -> list[Entry]:
    """The two stages of ingest."""
    return [Entry("source topics → ingest", INPUTS, 30, _ingest, weight=10)]
