"""Sales of some stores with a known truth: a rate with a daily and a weekly rhythm, promotions, and a change of level.

    python examples/demand/generate.py [FOLDER]        (default: the folder `data` beside this file)

`truth.parquet` says for each hour how many sales came and which rate they were drawn from (null: the recording ends
before the hour is over).
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

START_MS = 1_704_067_200_000
HOUR_MS = 3_600_000
PROMOTION = 0.06


def generate(folder: Path, *, seed: int = 3, stores: int = 6, days: int = 28) -> dict[str, int]:
    """Writes `hour.parquet`, `sale.parquet` and `truth.parquet`; returns the rows of each."""
    rng = np.random.default_rng(seed)
    hours = pl.concat([_hours(rng, f"store{number}", days) for number in range(stores)])
    counts = rng.poisson(hours["rate"].to_numpy())
    last = hours["begins_at"].max()
    truth = hours.select(
        "hour_id", pl.when(pl.col("begins_at") < last).then(pl.Series("label", counts)).alias("label"), "rate"
    )
    frames = {
        "hour": hours.drop("rate").sort("begins_at", "hour_id"),
        "sale": _sales(rng, hours, counts),
        "truth": truth.sort("hour_id"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return {name: frame.height for name, frame in frames.items()}


def _hours(rng: np.random.Generator, store: str, days: int) -> pl.DataFrame:
    number = np.arange(days * 24)
    of_day, of_week = number % 24, number // 24 % 7
    level = rng.gamma(8.0, 1.0)
    rhythm = np.exp(-((of_day - 15) ** 2) / 30) * np.where(of_week >= 5, 1.6, 1.0)
    promotion = rng.random(len(number)) < PROMOTION
    changed = np.where(number > len(number) * 0.6, 0.6, 1.0)
    rate = level * rhythm * changed * np.where(promotion, 1.8, 1.0) + 0.2
    return pl.DataFrame(
        {
            "hour_id": [f"{store}-{hour:05d}" for hour in number],
            "begins_at": _times(START_MS + number * HOUR_MS),
            "store": [store] * len(number),
            "promotion": promotion,
            "rate": rate,
        }
    )


def _sales(rng: np.random.Generator, hours: pl.DataFrame, counts: np.ndarray) -> pl.DataFrame:
    """The sales of an hour lie after its beginning, the last possible one at its end: (t, t + 1h]."""
    rows = np.repeat(np.arange(hours.height), counts)
    begins = hours["begins_at"].dt.epoch("ms").to_numpy()[rows]
    return pl.DataFrame(
        {
            "sale_id": [f"x{number:07d}" for number in range(len(rows))],
            "sold_at": _times(begins + rng.integers(1, HOUR_MS + 1, len(rows))),
            "store": hours["store"].gather(rows),
            "amount": rng.gamma(2.0, 8.0, len(rows)).round(2) + 0.01,
        }
    ).sort("sold_at", "sale_id")


def _times(ms: np.ndarray) -> pl.Series:
    return pl.Series(ms).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Sales of some stores with a known truth.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).with_name("data"))
    for name, count in generate(parser.parse_args().folder).items():
        print(f"{name}: {count} rows")  # noqa: T201 - a script's result
