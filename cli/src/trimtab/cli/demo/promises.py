"""What a loop promises of each event, and what became of those that were played: by their identities, not by counts."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trimtab.cli.demo.collect import Collected
from trimtab.cli.demo.events import named
from trimtab.loops.bodies import BodyEncoder
from trimtab.loops.conform import stored
from trimtab.loops.files import opened
from trimtab.loops.keys import value_text
from trimtab.loops.model import Event, Loop

UP_MS = 2**62
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Sent:
    """What was played. `counts`: events by name. `ids`: what they are known by (`events.named`), by name."""

    counts: Mapping[str, int]
    ids: Mapping[str, frozenset[str]]


def sent(loop: Loop, data: Path, until: int | None) -> Sent:
    """The recorded events up to a time."""
    last_ms = UP_MS if until is None else until
    counts: Counter[str] = Counter()
    ids: dict[str, set[str]] = {name: set() for name in loop.events}
    with opened(loop, data) as recorded:
        for chunk in recorded.chunks():
            inside = chunk.time_ms <= last_ms
            for number, name in enumerate(chunk.events):
                rows = int((chunk.event[inside] == number).sum())
                counts[name] += rows
                if rows:
                    ids[name].update(names(loop.events[name], chunk.frames[number].head(rows)))
    return Sent(counts, {name: frozenset(some) for name, some in ids.items()})


def names(event: Event, rows: pl.DataFrame) -> Iterator[str]:
    """What recorded events will be known by."""
    if event.id is None:
        return (named(event, None, body) for body in BodyEncoder(event).encode(rows))
    values = stored(event, rows.select(event.id))[event.id].to_list()
    return (named(event, None if value is None else value_text(value), b"") for value in values)


@dataclass(frozen=True, slots=True)
class Lost:
    """What is missing.

    `events`: ids by name that were sent, and are neither among the loop's events nor in quarantine. `unanswered`: keys
    of accepted asks without a prediction. `unsettled`: keys of predictions whose label is known (by the loop's own
    rules), without an outcome that has it.
    """

    events: Mapping[str, frozenset[str]]
    unanswered: frozenset[str]
    unsettled: frozenset[str]

    def __len__(self) -> int:
        return sum(map(len, self.events.values())) + len(self.unanswered) + len(self.unsettled)


def lost(played: Sent, collected: Collected) -> Lost:
    """What was sent, and has not become what it has to become."""
    told, predicted = collected.events, collected.predicted()
    there = {name: one.ids | collected.rejected_ids(name) for name, one in told.accepted.items()}
    labelled = frozenset(collected.outcomes.filter("labelled")["key"])
    return Lost(
        events={name: ids - there[name] for name, ids in played.ids.items()},
        unanswered=told.asks - predicted,
        unsettled=(told.labelled & predicted) - labelled,
    )


def broken(played: Sent, collected: Collected) -> Iterator[str]:
    """Every promise that was not kept, in a sentence."""
    missing = lost(played, collected)
    for name, ids in missing.events.items():
        yield from listed(f"{name} events sent that are neither accepted nor in quarantine", ids)
    yield from listed("accepted asks without a prediction", missing.unanswered)
    yield from listed("predictions whose label is known, without an outcome that has it", missing.unsettled)
    yield from listed("predictions of what was never accepted", collected.predicted() - collected.events.asks)
    if copies := collected.copies():
        yield f"Events, predictions or outcomes that stand there twice: {copies:,}."


def listed(what: str, keys: Iterable[str]) -> Iterator[str]:
    """How many, and the first of them; nothing of none."""
    if found := sorted(keys):
        more = ", …" if len(found) > SHOWN else ""
        yield f"{what[:1].upper()}{what[1:]}: {len(found):,} ({', '.join(found[:SHOWN])}{more})."
