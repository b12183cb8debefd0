"""Machines that wear out, with a known truth: each has a wear that grows with its power and is set back by a repair.

    python examples/machines/generate.py [FOLDER]        (default: the folder `data` beside this file)

`truth.parquet` says for each reading whether its machine failed in the seven days after it (null: the recording ends
before they are over).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

START_MS = 1_704_067_200_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
EVERY_MS = 6 * HOUR_MS
WITHIN_MS = 7 * DAY_MS
MODELS = ("A", "B", "C")
WEAR_A_DAY = {"A": 0.02, "B": 0.03, "C": 0.045}
SILENT = 0.03


@dataclass(frozen=True, slots=True)
class Lived:
    """One machine's recorded life."""

    readings: pl.DataFrame
    failures: pl.DataFrame


def generate(folder: Path, *, seed: int = 2, machines: int = 30, days: int = 90) -> dict[str, int]:
    """Writes `reading.parquet`, `failure.parquet` and `truth.parquet`; returns the rows of each."""
    rng = np.random.default_rng(seed)
    lives = [_live(rng, f"m{number:02d}", MODELS[number % len(MODELS)], days) for number in range(machines)]
    readings = pl.concat([life.readings for life in lives]).sort("read_at", "reading_id")
    failures = pl.concat([life.failures for life in lives]).sort("failed_at", "failure_id")
    frames = {"reading": readings, "failure": failures, "truth": _truth(lives, START_MS + days * DAY_MS)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return {name: frame.height for name, frame in frames.items()}


def _live(rng: np.random.Generator, machine: str, model: str, days: int) -> Lived:
    steps = days * DAY_MS // EVERY_MS
    at = START_MS + np.arange(steps) * EVERY_MS + rng.integers(0, HOUR_MS, steps)
    power = np.clip(rng.normal(0.7, 0.2, steps), 0.0, 1.5)
    wear, failed = _wear(rng, power, WEAR_A_DAY[model] * EVERY_MS / DAY_MS)
    temperature = 40 + 25 * power + 10 * wear + rng.normal(0, 3, steps)
    silent = rng.random(steps) < SILENT
    readings = pl.DataFrame(
        {
            "reading_id": [f"{machine}-{number:05d}" for number in range(steps)],
            "read_at": _times(at),
            "machine": [machine] * steps,
            "model": [model] * steps,
            "temperature": pl.Series(np.where(silent, np.nan, temperature).round(2)).fill_nan(None),
            "vibration": np.clip(1.0 + 2.5 * wear + rng.normal(0, 0.4, steps), 0.0, None).round(3),
            "power": power.round(3),
        }
    )
    times = at[failed] + rng.integers(HOUR_MS, 4 * HOUR_MS, int(failed.sum()))
    failures = pl.DataFrame(
        {
            "failure_id": [f"{machine}-f{number}" for number in range(len(times))],
            "failed_at": _times(times),
            "machine": [machine] * len(times),
            "downtime_h": rng.gamma(2.0, 4.0, len(times)).round(1),
        },
        schema_overrides={"failure_id": pl.String, "machine": pl.String, "downtime_h": pl.Float64},
    )
    return Lived(readings, failures)


def _wear(rng: np.random.Generator, power: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """(wear at each reading, whether it failed after it). A repair takes nearly all of the wear away."""
    wear, failed = np.zeros(len(power)), np.zeros(len(power), dtype=bool)
    now = rng.random()
    for number, share in enumerate(power):
        now += step * 2 * share
        wear[number] = now
        if rng.random() < 0.08 * max(0.0, now - 0.6) ** 2:
            failed[number], now = True, 0.1 * rng.random()
    return wear, failed


def _truth(lives: list[Lived], end_ms: int) -> pl.DataFrame:
    parts = []
    for life in lives:
        asked = life.readings["read_at"].dt.epoch("ms").to_numpy()
        failed = life.failures["failed_at"].dt.epoch("ms").to_numpy()
        coming = np.searchsorted(failed, asked + WITHIN_MS, "right") > np.searchsorted(failed, asked, "right")
        open_still = (asked + WITHIN_MS > end_ms) & ~coming
        label = pl.select(pl.when(~pl.lit(pl.Series(open_still))).then(pl.lit(pl.Series(coming)))).to_series()
        parts.append(life.readings.select("reading_id", label.alias("label")))
    return pl.concat(parts).sort("reading_id")


def _times(ms: np.ndarray) -> pl.Series:
    return pl.Series(ms).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Machines that wear out, with a known truth.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).with_name("data"))
    for name, count in generate(parser.parse_args().folder).items():
        print(f"{name}: {count} rows")  # noqa: T201 - a script's result
