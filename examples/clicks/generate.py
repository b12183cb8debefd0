"""Offers and clicks with a known truth: how likely a click is depends on the offer, the slot, and on wear.

    python examples/clicks/generate.py [FOLDER]        (default: the folder `data` beside this file)

Some visitors click twice, some so late that it no longer counts; the truth of each offer shown is in `truth.parquet`.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

START_MS = 1_714_521_600_000
DAY_MS = 86_400_000
MINUTE_MS = 60_000
WITHIN_MS = 30 * MINUTE_MS
OFFERS, VISITORS = 12, 600
SLOTS = ("top", "side", "foot")
SLOT_EFFECT = np.array([0.6, 0.0, -0.9])
TWICE, LATE = 0.1, 0.05


def generate(folder: Path, *, seed: int = 1, days: int = 10, per_day: int = 2_000) -> dict[str, int]:
    """Writes `shown.parquet`, `clicked.parquet` and `truth.parquet`; returns the rows of each."""
    rng = np.random.default_rng(seed)
    shown = _shown(rng, days, per_day)
    likely = _likely(rng, shown, days)
    clicks = rng.random(shown.height) < likely
    late = clicks & (rng.random(shown.height) < LATE)
    clicked = _clicked(rng, shown, clicks, late)
    truth = shown.select("shown_id", pl.Series("label", clicks & ~late), pl.Series("likely", likely))
    frames = {"shown": shown, "clicked": clicked, "truth": truth}
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet")
    return {name: frame.height for name, frame in frames.items()}


def _shown(rng: np.random.Generator, days: int, per_day: int) -> pl.DataFrame:
    rows = days * per_day
    at = np.sort(START_MS + rng.integers(0, days * DAY_MS, rows))
    return pl.DataFrame(
        {
            "shown_id": [f"s{number:06d}" for number in range(rows)],
            "shown_at": _times(at),
            "visitor": [f"v{number}" for number in rng.integers(0, VISITORS, rows)],
            "offer": [f"o{number}" for number in rng.integers(0, OFFERS, rows)],
            "slot": rng.choice(SLOTS, rows),
            "price": rng.gamma(3.0, 10.0, rows).round(2),
        }
    )


def _likely(rng: np.random.Generator, shown: pl.DataFrame, days: int) -> np.ndarray:
    """Logit of a click: offer + slot - price; in the second half the first offers have worn out."""
    offers = rng.normal(0.0, 0.8, OFFERS)
    offer = shown["offer"].str.slice(1).cast(pl.Int64).to_numpy()
    slot = np.array([SLOTS.index(name) for name in shown["slot"]])
    worn = (shown["shown_at"].dt.epoch("ms").to_numpy() > START_MS + days * DAY_MS // 2) & (offer < OFFERS // 2)
    logit = -1.6 + offers[offer] + SLOT_EFFECT[slot] - 0.02 * shown["price"].to_numpy() - 1.5 * worn
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))


def _clicked(rng: np.random.Generator, shown: pl.DataFrame, clicks: np.ndarray, late: np.ndarray) -> pl.DataFrame:
    rows = shown.height
    wait = np.where(late, WITHIN_MS + rng.integers(1, WITHIN_MS, rows), rng.integers(1_000, WITHIN_MS + 1, rows))
    times = shown["shown_at"].dt.epoch("ms").to_numpy() + wait
    once = _click_rows(shown, clicks, times, "a")
    twice = _click_rows(shown, clicks & (rng.random(rows) < TWICE), times + 2_000, "b")
    return pl.concat([once, twice]).sort("clicked_at", "click_id")


def _click_rows(shown: pl.DataFrame, chosen: np.ndarray, times: np.ndarray, which: str) -> pl.DataFrame:
    return (
        shown.with_columns(_times(times).alias("clicked_at"), pl.format(f"{{}}-{which}", "shown_id").alias("click_id"))
        .filter(pl.Series(chosen))
        .select("click_id", "shown_id", "clicked_at", "visitor", "offer")
    )


def _times(ms: np.ndarray) -> pl.Series:
    return pl.Series(ms).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Offers and clicks with a known truth.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).with_name("data"))
    for name, count in generate(parser.parse_args().folder).items():
        print(f"{name}: {count} rows")  # noqa: T201 - a script's result
