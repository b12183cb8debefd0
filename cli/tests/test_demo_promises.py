"""What the demo calls lost: each event, ask and label by its own identity."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from trimtab.cli.demo.collect import Collected, outcome_frame
from trimtab.cli.demo.events import Reading
from trimtab.cli.demo.promises import Sent, broken, lost, sent
from trimtab.contracts import data, envelope
from trimtab.contracts.codec import AvroCodec
from trimtab.loops.model import Loop
from trimtab.runtime.records import Record
from trimtab.testing.declarations import offers

HOUR_MS = 3_600_000
NOON_MS = 1_717_243_200_000
FIRST = offers(label={"settle": "first"})
Row = tuple[str, dict[str, Any]]


def offer(name: str, at_ms: int = NOON_MS) -> Row:
    return "offer", {"offer_id": name, "shown_at": at_ms, "place": None, "price": 1.0}


def click(name: str, of: str, at_ms: int = NOON_MS + HOUR_MS) -> Row:
    return "click", {"click_id": name, "offer_id": of, "clicked_at": at_ms}


def outcome(key: str, revision: int = 0, *, labelled: bool = True) -> Record:
    status, label = ("labelled", 1.0) if labelled else ("no_label", None)
    value = data.Outcome(
        key=key,
        prediction_partition=0,
        prediction_offset=int(key[1:]),
        at_ms=NOON_MS,
        settled_at_ms=NOON_MS + HOUR_MS,
        status=status,
        label=label,
        revision=revision,
        suspect=False,
    )
    return Record("offers.outcomes", 0, 0, key.encode(), data.encode(value))


def accepted(loop: Loop, row: Row) -> Record:
    name, values = row
    event = loop.events[name]
    body = AvroCodec(event.schema).encode(values)
    at_ms = values[event.time]
    id_ = body.hex() if event.id is None else values[event.id]
    headers = (*envelope.headers(id_, name, "ingest", at_ms), (envelope.DIGEST, body[-16:]))
    return Record(name, 0, 0, b"k", body, headers)


def collected(
    rows: Sequence[Row],
    outcomes: Sequence[Record] = (),
    *,
    rejected: Sequence[tuple[str, str]] = (),
    predicted: Sequence[str] | None = None,
    loop: Loop = FIRST,
) -> Collected:
    """A loop's topics: every accepted offer has its prediction, unless it is said otherwise."""
    reading = Reading(loop)
    for row in rows:
        reading.take(row[0], [accepted(loop, row)])
    keys = [row["offer_id"] for name, row in rows if name == "offer"] if predicted is None else predicted
    return Collected(
        events=reading.events(),
        keys=[key.encode() for key in keys],
        predictions=pl.DataFrame(),
        shadows=pl.DataFrame(),
        outcomes=outcome_frame(outcomes),
        control={},
        rejected=rejected,
    )


def played(offers: Sequence[str], clicks: Sequence[str] = ()) -> Sent:
    ids = {"offer": frozenset(offers), "click": frozenset(clicks)}
    return Sent({name: len(some) for name, some in ids.items()}, ids)


def test_everything_in_its_place_is_nothing_lost() -> None:
    found = collected([offer("o1"), offer("o2"), click("c1", "o1")], [outcome("o1"), outcome("o2", labelled=False)])
    assert len(lost(played(["o1", "o2"], ["c1"]), found)) == 0
    assert list(broken(played(["o1", "o2"], ["c1"]), found)) == []


def test_conflicting_copies_in_quarantine_do_not_make_up_for_lost_events() -> None:
    there, gone = [f"c{n}" for n in range(5)], [f"c{n}" for n in range(5, 10)]
    rows = [offer("o1"), *(click(name, "o1") for name in there)]
    found = collected(rows, [outcome("o1")], rejected=[("click", name) for name in there])
    missing = lost(played(["o1"], [*there, *gone]), found)
    assert missing.events["click"] == frozenset(gone)
    assert len(missing) == 5
    assert list(broken(played(["o1"], [*there, *gone]), found)) == [
        "Click events sent that are neither accepted nor in quarantine: 5 (c5, c6, c7, …)."
    ]


def test_an_ask_in_quarantine_is_neither_lost_nor_unanswered() -> None:
    found = collected([offer("o1"), click("c1", "o2")], rejected=[("offer", "o2")])
    assert len(lost(played(["o1", "o2"], ["c1"]), found)) == 0


def test_an_id_in_quarantine_is_that_of_its_own_event() -> None:
    found = collected([offer("o1")], rejected=[("click", "x")])
    assert lost(played(["o1", "x"]), found).events == {"offer": {"x"}, "click": frozenset()}


def test_an_accepted_ask_without_a_prediction() -> None:
    found = collected([offer("o1"), offer("o2")], predicted=["o2"])
    assert lost(played(["o1", "o2"]), found).unanswered == {"o1"}
    assert list(broken(played(["o1", "o2"]), found)) == ["Accepted asks without a prediction: 1 (o1)."]


@pytest.mark.parametrize(
    ("outcomes", "missing"),
    [
        ([], {"o1"}),
        ([outcome("o1", labelled=False)], {"o1"}),
        ([outcome("o1")], set()),
        ([outcome("o1", labelled=False), outcome("o1", 1)], set()),
    ],
    ids=["none", "without the label", "in time", "revised by a late label"],
)
def test_a_prediction_whose_label_came(outcomes: Sequence[Record], missing: set[str]) -> None:
    found = collected([offer("o1"), click("c1", "o1")], outcomes)
    assert lost(played(["o1"], ["c1"]), found).unsettled == missing


def test_what_comes_outside_of_its_window_is_no_label() -> None:
    loop = offers(label={"settle": "first"}, loop={"lateness": "1h"})
    rows = [offer("o1"), click("c1", "o1", NOON_MS + 24 * HOUR_MS + 1), click("c2", "o1", NOON_MS)]
    assert collected(rows, loop=loop).events.labelled == frozenset()
    assert collected([*rows, click("c3", "o1", NOON_MS + 1)], loop=loop).events.labelled == {"o1"}


def test_a_window_that_settles_when_it_closes_owes_nothing_before() -> None:
    loop = offers(label={"settle": "close"})
    rows = [offer("o1"), click("c1", "o1"), offer("o2", NOON_MS + 20 * HOUR_MS)]
    later = offer("o3", NOON_MS + 26 * HOUR_MS)
    assert collected(rows, loop=loop).events.labelled == frozenset()
    assert collected([*rows, later], loop=loop).events.labelled >= {"o1"}


def test_a_silent_source_keeps_windows_open() -> None:
    events = {**offers().declaration["events"]}
    events["click"] = {**events["click"], "expect": "1 per 2h"}
    loop = offers(label={"settle": "close"}, events=events)
    rows = [offer("o1"), click("c1", "o1"), offer("o3", NOON_MS + 40 * HOUR_MS)]
    heard = [click(f"d{hour}", "o9", NOON_MS + hour * HOUR_MS) for hour in range(41)]
    assert collected(rows, loop=loop).events.labelled == frozenset()
    assert collected([*rows, *heard], loop=loop).events.labelled == {"o1"}


def test_a_correction_is_no_copy_and_the_same_body_is_one() -> None:
    events = {**offers().declaration["events"]}
    events["offer"] = {**events["offer"], "revisions": True}
    loop = offers(events=events)
    corrected = ("offer", {**offer("o1")[1], "price": 2.0})
    assert collected([offer("o1"), corrected], predicted=["o1"], loop=loop).copies() == 0
    assert collected([offer("o1"), corrected, corrected], predicted=["o1"], loop=loop).copies() == 1
    assert collected([offer("o1"), offer("o1")], predicted=["o1"]).copies() == 1


def test_what_stands_twice_and_what_nobody_asked_for_is_told() -> None:
    found = collected([offer("o1")], [outcome("o1"), outcome("o1")], predicted=["o1", "o1", "o7"])
    assert list(broken(played(["o1"]), found)) == [
        "Predictions of what was never accepted: 1 (o7).",
        "Events, predictions or outcomes that stand there twice: 2.",
    ]


@pytest.mark.parametrize("id_", ["click_id", None])
def test_what_was_sent_is_known_by_what_the_loop_will_call_it(tmp_path: Path, id_: str | None) -> None:
    events = {**offers().declaration["events"]}
    events["click"] = {name: value for name, value in events["click"].items() if name != "id"}
    loop = offers(events=events) if id_ is None else offers()
    rows = [click("c1", "o1"), click("c2", "o1", NOON_MS + 2 * HOUR_MS)]
    shown = "2024-06-01T12:00:00Z"
    (tmp_path / "offer.jsonl").write_text(json.dumps({**offer("o1")[1], "shown_at": shown}) + "\n")
    clicked = [{**row, "clicked_at": f"2024-06-01T{13 + n}:00:00Z"} for n, (_, row) in enumerate(rows)]
    (tmp_path / "click.jsonl").write_text("".join(json.dumps(row) + "\n" for row in clicked))
    whole = sent(loop, tmp_path, None)
    assert whole.counts == {"offer": 1, "click": 2}
    assert whole.ids == {
        name: one.ids for name, one in collected([offer("o1"), *rows], loop=loop).events.accepted.items()
    }
    assert sent(loop, tmp_path, NOON_MS + HOUR_MS).counts == {"offer": 1, "click": 1}
