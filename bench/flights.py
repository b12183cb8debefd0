"""The flights example as a loop that lives today: its recorded events moved so that the last of them happen now.

The declaration is that of `examples/flights` but for what suits a replay and not a bench: a fit costs no event time, so
that a promotion takes effect at once, and neither cooldown nor budget keep a drift from being answered.
"""

import itertools
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from trimtab.cli.demo.command import prepared
from trimtab.loops import declaration
from trimtab.loops.model import Loop

FLIGHTS = Path(__file__).parent.parent / "examples" / "flights"
DATA = Path(".trimtab") / "data-flights"
DAY_MS = 86_400_000
TIMES: Mapping[str, str] = {"departure": "scheduled_at", "arrival": "arrived_at", "weather": "observed_at"}
LIVE: Mapping[str, str] = {"fit_time": "0s", "cooldown": "1h", "budget": "99 per 365d"}
ARRIVES_AFTER = 50
"""A live flight arrives so many departures after its own."""


@dataclass(frozen=True, slots=True)
class Flights:
    """The loop, its folder with `data`, and where its history begins and ends."""

    loop: Loop
    folder: Path
    first_ms: int
    last_ms: int

    @property
    def data(self) -> Path:
        """The recorded events."""
        return self.folder / "data"

    def after_days(self, days: int) -> int:
        """An instant of the history."""
        return self.first_ms + days * DAY_MS


def flights(folder: Path, name: str, days: int, now_ms: int) -> Flights:
    """The first `days` of the year as a loop of that name, ending now: the last day is as old as today.

    Moved by whole days, so that hours stay hours. A silence before the live events would hold the stream.
    """
    source = prepared(FLIGHTS, declaration.load(FLIGHTS), DATA, Console(stderr=True))
    shutil.copytree(FLIGHTS, folder, ignore=shutil.ignore_patterns("data", "__pycache__"))
    text = (folder / declaration.FILE).read_text()
    for key, value in {**LIVE, "name": name}.items():
        text, count = re.subn(rf"^{key} = .*$", f'{key} = "{value}"', text, flags=re.MULTILINE)
        assert count == 1, f"{FLIGHTS / declaration.FILE} has no longer one {key}"
    (folder / declaration.FILE).write_text(text)
    first_ms = _first_ms(source)
    moved_ms = ((now_ms - first_ms) // DAY_MS - days + 1) * DAY_MS
    _move(source, folder / "data", now_ms - moved_ms, moved_ms)
    return Flights(declaration.load(folder), folder, first_ms + moved_ms, now_ms)


def _first_ms(source: Path) -> int:
    """The start of the first day with a departure."""
    first = pl.scan_parquet(source / "departure.parquet").select(pl.col("scheduled_at").min().dt.epoch("ms"))
    return int(first.collect().item()) // DAY_MS * DAY_MS


def _move(source: Path, target: Path, before_ms: int, by_ms: int) -> None:
    target.mkdir()
    for event, time in TIMES.items():
        rows = pl.scan_parquet(source / f"{event}.parquet").filter(pl.col(time).dt.epoch("ms") < before_ms)
        rows.with_columns(pl.col(time) + pl.duration(milliseconds=by_ms)).sink_parquet(target / f"{event}.parquet")


def live(flights: Flights, first: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Departures and arrivals without end, in turn: (event, body without its time), numbered from `first`.

    A flight arrives after a while.
    """
    rows = pl.read_parquet(flights.data / "departure.parquet").tail(2_000).drop("scheduled_at", "flight_id").to_dicts()
    for number in itertools.count(first):
        yield "departure", {"flight_id": f"live-{number}", **rows[number % len(rows)]}
        landed = number - ARRIVES_AFTER
        if landed >= first:
            same = {name: rows[landed % len(rows)][name] for name in ("carrier", "flight", "tailnum", "origin", "dest")}
            yield "arrival", {"flight_id": f"live-{landed}", **same, "arr_delay_min": landed % 40 - 10}
