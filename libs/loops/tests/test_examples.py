"""The example loops: their data fit their declarations, and their truth is what the declared label says."""

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from trimtab.loops import declaration, expressions, files
from trimtab.loops.columns import event_columns
from trimtab.loops.model import Loop

EXAMPLES = Path(__file__).parents[3] / "examples"
GENERATED: Mapping[str, Mapping[str, int]] = {
    "clicks": {"days": 3, "per_day": 400},
    "machines": {"machines": 6, "days": 60},
    "demand": {"stores": 2, "days": 8},
}


def script(name: str, file: str) -> SimpleNamespace:
    """What an example's script defines."""
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / name / file)))


def generated(name: str, folder: Path) -> Loop:
    generate: Callable[..., Mapping[str, int]] = script(name, "generate.py").generate
    generate(folder, **GENERATED[name])
    return declaration.load(EXAMPLES / name)


def recorded(loop: Loop, folder: Path) -> dict[str, pl.DataFrame]:
    """All events of each kind as the chunks give them."""
    found: dict[str, list[pl.DataFrame]] = {name: [] for name in loop.events}
    with files.opened(loop, folder) as events:
        for chunk in events.chunks():
            for name, frame in zip(chunk.events, chunk.frames, strict=True):
                found[name] += [frame] if frame.height else []
    return {name: pl.concat(frames) for name, frames in found.items()}


def counted(loop: Loop, events: Mapping[str, pl.DataFrame]) -> dict[str, int]:
    """How many label events each ask has in its window (t, t + within], one ask at a time."""
    asks, told = events[loop.predict.on], events[loop.label.of]
    asked, known = loop.asks.time, loop.events[loop.label.of].time
    times: dict[tuple[Any, ...], list[int]] = {}
    for row in told.with_columns(pl.col(known).dt.epoch("ms")).to_dicts():
        times.setdefault(tuple(row[name] for name in loop.label.by), []).append(row[known])
    found = {}
    for row in asks.with_columns(pl.col(asked).dt.epoch("ms")).to_dicts():
        at = row[asked]
        own = times.get(tuple(row[name] for name in loop.label.by), [])
        found[row[loop.predict.key]] = sum(at < time <= at + loop.label.within_ms for time in own)
    return found


@pytest.mark.parametrize("name", GENERATED)
def test_the_truth_is_the_declared_label(name: str, tmp_path: Path) -> None:
    loop = generated(name, tmp_path)
    truth = pl.read_parquet(tmp_path / "truth.parquet").filter(pl.col("label").is_not_null())

    counts = counted(loop, recorded(loop, tmp_path))

    wanted = {row[loop.predict.key]: row["label"] for row in truth.to_dicts()}
    assert len(wanted) > len(counts) * 0.8
    assert loop.label.value in ("count()", "count() > 0")
    values = {key: counts[key] if loop.task == "regression" else counts[key] > 0 for key in wanted}
    assert values == wanted
    assert len(set(values.values())) > 1


@pytest.mark.parametrize("name", GENERATED)
def test_every_generated_event_keeps_the_rules(name: str, tmp_path: Path) -> None:
    loop = generated(name, tmp_path)
    events = recorded(loop, tmp_path)

    for event, rule in loop.quality.rules.items():
        assert expressions.compile_row(rule, event_columns(loop.events[event]))(events[event]).all(), rule
    for event_name, frame in events.items():
        key = loop.events[event_name].id
        assert key is not None
        assert frame[key].n_unique() == frame.height


@pytest.mark.parametrize("name", GENERATED)
def test_the_same_seed_gives_the_same_events(name: str, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        generated(name, tmp_path / folder)
    script(name, "generate.py").generate(tmp_path / "c", seed=99, **GENERATED[name])

    for path in sorted((tmp_path / "a").iterdir()):
        first = pl.read_parquet(path)
        assert first.equals(pl.read_parquet(tmp_path / "b" / path.name)), path.name
    other = pl.read_parquet(tmp_path / "c" / "truth.parquet")
    assert not other.equals(pl.read_parquet(tmp_path / "a" / "truth.parquet"))


FLIGHTS: Mapping[str, tuple[dict[str, Any], str, str | None]] = {
    # what the data say, scheduled departure in UTC, arrival in UTC
    "an hour behind": ({"dest": "IAH", "arr_time": 830, "air_time": 227}, "2013-01-01T10:15", "2013-01-01T14:30"),
    "overnight": (
        {"dest": "BQN", "sched_dep_time": 2359, "dep_delay": 11, "arr_time": 449, "air_time": 190},
        "2013-01-02T04:59",
        "2013-01-02T08:49",
    ),
    "midnight": (
        {"dest": "BOS", "sched_dep_time": 2200, "dep_delay": 60, "arr_time": 2400, "air_time": 40},
        "2013-01-02T03:00",
        "2013-01-02T05:00",
    ),
    "five hours behind": (
        {"dest": "HNL", "sched_dep_time": 1000, "arr_time": 1530, "air_time": 610},
        "2013-01-01T15:00",
        "2013-01-02T01:30",
    ),
    "the night the clocks go back": (
        {"dest": "BOS", "month": 11, "day": 2, "sched_dep_time": 2359, "arr_time": 130, "air_time": 60},
        "2013-11-03T03:59",
        "2013-11-03T05:30",
    ),
    "a day late": (
        {"dest": "BOS", "dep_delay": 1300, "arr_time": 400, "air_time": 40},
        "2013-01-01T10:15",
        "2013-01-02T09:00",
    ),
    "cancelled": (
        {"dest": "BOS", "dep_delay": None, "arr_time": None, "air_time": None, "arr_delay": None},
        "2013-01-01T10:15",
        None,
    ),
    "diverted": (
        {"dest": "IAH", "arr_time": 1200, "air_time": None, "arr_delay": None},
        "2013-01-01T10:15",
        None,
    ),
}
FLIGHT = {
    "year": 2013,
    "month": 1,
    "day": 1,
    "sched_dep_time": 515,
    "dep_delay": 2,
    "arr_time": 830,
    "sched_arr_time": 819,
    "arr_delay": 11,
    "carrier": "UA",
    "flight": 1545,
    "tailnum": "N14228",
    "origin": "EWR",
    "dest": "IAH",
    "air_time": 227,
    "distance": 1400,
}
ZONES = {
    "IAH": "America/Chicago",
    "BOS": "America/New_York",
    "HNL": "Pacific/Honolulu",
    "BQN": "America/Puerto_Rico",
}


@pytest.mark.parametrize("case", FLIGHTS)
def test_flights_arrive_in_utc(case: str) -> None:
    row, scheduled, arrived = FLIGHTS[case]
    prepare = script("flights", "prepare.py")
    flights = pl.DataFrame([{**FLIGHT, **row}], schema_overrides={"air_time": pl.Int64, "arr_time": pl.Int64})

    timed = prepare.with_times(flights, ZONES)

    assert _minute(timed["scheduled_at"][0]) == scheduled
    assert _minute(timed["arrived_at"][0]) == arrived
    assert prepare.departures(timed).height == 1
    assert prepare.arrivals(timed).height == (0 if arrived is None else 1)


def test_departures_say_nothing_of_what_came_later() -> None:
    prepare = script("flights", "prepare.py")
    timed = prepare.with_times(pl.DataFrame([FLIGHT]), ZONES)
    loop = declaration.load(EXAMPLES / "flights")

    assert set(prepare.departures(timed).columns) == {field["name"] for field in loop.asks.schema["fields"]}
    assert set(prepare.arrivals(timed).columns) == {field["name"] for field in loop.events["arrival"].schema["fields"]}
    assert prepare.departures(timed)["flight_id"].to_list() == ["2013-01-01-UA-1545-EWR-IAH-0515"]


def test_weather_is_known_when_its_hour_is_over() -> None:
    prepare = script("flights", "prepare.py")
    measured = dict.fromkeys(prepare.MEASURED, 1.0)
    observed = pl.DataFrame([{"origin": "EWR", "time_hour": "2013-01-01T06:00:00Z", **measured}])

    (row,) = prepare.weather(observed).to_dicts()

    assert _minute(row["observed_at"]) == "2013-01-01T07:00"
    assert row["observation_id"] == "EWR-2013-01-01T07"


def _minute(time: Any) -> str | None:
    return None if time is None else f"{time:%Y-%m-%dT%H:%M}"
