"""Control events written by hand: what keeps no schema, or stands where it does not belong, is refused and told."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from trimtab.contracts import control, topics
from trimtab.runtime.control import as_written, heard
from trimtab.runtime.host.loops import LoopsView
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Measure
from trimtab.runtime.views import Views
from trimtab.testing import record
from trimtab.testing.declarations import declared, offers

COMMAND: Mapping[str, Any] = {
    "loop": "offers",
    "at": "2024-06-01T00:00:00.000Z",
    "command_id": "c1",
    "kind": "rollback",
    "by": "anna",
}


def by_hand(**changes: Any) -> bytes:
    return json.dumps({**COMMAND, **changes}).encode()


REFUSED: Mapping[str, tuple[bytes | None, bytes | None, str]] = {
    "no value": (b"offers", None, "says something in loop.declared alone"),
    "another loop's key": (b"other", by_hand(), "its key is b'other', its loop 'offers'"),
    "no key": (None, by_hand(), "its key is None"),
    "a key that is no text": (b"\xff", by_hand(), "its key is b'\\xff'"),
    "infinity": (b"offers", by_hand(more=float("inf")), "event: Invalid JSON"),
    "beyond doubles": (b"offers", by_hand()[:-1] + b', "more": 1e999}', "event: Invalid JSON"),
    "2^63 in a field": (b"offers", by_hand(more={"n": [2**63]}), "more.n.0: a whole number of more than 64 bits"),
    "half a character": (b"offers", by_hand(note="\ud800"), "event: Invalid JSON"),
    "nested without end": (b"offers", b"[" * 100_000, "event: Invalid JSON"),
    "the year 9999": (b"offers", by_hand(at="9999-12-31T23:59:59.999Z"), "at: Value error, expected a time as text"),
    "the year 1": (b"offers", by_hand(at="0001-01-01T00:00:00.000Z"), "at: Value error, expected a time as text"),
    "a time in ms": (b"offers", by_hand(at=2**62), "at: Value error, expected a time as text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_record_that_is_no_event_of_its_loop_is_refused(name: str) -> None:
    key, value, why = REFUSED[name]
    good = record(topics.REGISTRY_COMMANDS, by_hand(), key=b"offers")
    events, refused = heard({topics.REGISTRY_COMMANDS: [record(topics.REGISTRY_COMMANDS, value, key=key), good]})
    assert [one.loop for one in events] == ["offers"]
    assert [why in one.reason for one in refused] == [True], refused


@pytest.mark.parametrize("at", ["1500-01-01T00:00:00.000Z", "8999-12-31T23:59:59.999Z"])
def test_a_time_from_which_can_be_reckoned_is_taken(at: str) -> None:
    events, refused = as_written(
        topics.REGISTRY_COMMANDS, [record(topics.REGISTRY_COMMANDS, by_hand(at=at), key=b"offers")]
    )
    assert (len(events), refused) == (1, [])


def test_only_the_tombstone_of_a_declaration_ends_a_loop() -> None:
    tombstones = {topic: [record(topic, None, key=b"offers")] for topic in control.BY_TOPIC}
    events, refused = heard(tombstones)
    assert [(one.topic, one.event) for one in events] == [(topics.LOOP_DECLARED, None)]
    assert len(refused) == len(control.BY_TOPIC) - 1


async def test_a_view_passes_over_what_it_cannot_read_counts_it_and_says_why() -> None:
    bus, view, counted = MemoryBus({topics.LOOP_DECLARED: 1}), LoopsView(), list[Measure]()
    good = control.encode(declared(offers()))
    values = [b"{", good, control.encode(declared(offers(loop={"name": "other"})))]
    bus.append([Out(topics.LOOP_DECLARED, b"offers", value) for value in values])
    views = Views(bus, counted.extend)
    reader = views.start(view)
    await reader.ready.wait()
    assert list(view.declared) == ["offers"]
    assert reader.refused == 2
    assert "its loop 'other'" in (reader.refusal or "")
    assert [one.value for one in counted if one.metric.name == "trimtab.runtime.view.refused"] == [1, 1]
    await views.keep(())
