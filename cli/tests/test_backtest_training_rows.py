"""The training rows of the example loops equal an offline recomputation from the files that their generators wrote.

The definition stands here once more, in a plain way: a window as of t holds the events of its key with
floor(t − settling − ago) − width ≤ time < floor(t − settling − ago), floors to the group's grain (docs/adr/0002 and
0018); a latest value is that of the newest event before its end, if that is at most `max_age` older than the ask.
"""

import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from trimtab.cli.backtest.recorded import recording
from trimtab.loops import declaration
from trimtab.loops.model import Loop
from trimtab.ml.datasets import Dataset

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
SETTLING_MS = 500
Floats = NDArray[np.float64]
Reduce = Callable[[Floats], float]


def count(values: Floats) -> float:
    return float(len(values))


def distinct(values: Floats) -> float:
    return float(len(set(values.tolist())))


def mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return sum(known.tolist()) / len(known) if len(known) else np.nan


def spread(values: Floats) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def highest(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else np.nan


def newest(values: Floats) -> float:
    return float(values[-1]) if len(values) else np.nan


@dataclass(frozen=True)
class Column:
    """A feature: `reduce` over `value` (an expression over the event's fields) of the events in the window."""

    of: str
    by: Sequence[str]
    value: pl.Expr
    reduce: Reduce
    grain_ms: int
    width_ms: int
    ago_ms: int = 0

    def bounds(self, at_ms: int) -> tuple[int, int]:
        """The window as of a time: from ≤ time < until."""
        until = (at_ms - SETTLING_MS - self.ago_ms) // self.grain_ms * self.grain_ms
        if self.reduce is newest:
            return at_ms - self.width_ms, until
        return until - self.width_ms, until


ONE = pl.lit(1.0)
CLICKS = {
    **{
        f"offer_clicks_{name}_{window}": Column("clicked", ["offer"], value, reduce, 15 * SECOND, width)
        for name, value, reduce in (
            ("n", ONE, count),
            ("visitors", pl.col("visitor").str.slice(1).cast(pl.Float64), distinct),
        )
        for window, width in (("3h", 3 * HOUR), ("1d", DAY))
    },
    "offer_shown_n_3h": Column("shown", ["offer"], ONE, count, 15 * SECOND, 3 * HOUR),
    "offer_shown_n_1d": Column("shown", ["offer"], ONE, count, 15 * SECOND, DAY),
    "visitor_shown_n_1d": Column("shown", ["visitor"], ONE, count, MINUTE, DAY),
    "visitor_shown_price_1d": Column("shown", ["visitor"], pl.col("price"), mean, MINUTE, DAY),
    "clicked_before_price": Column("shown", ["visitor", "offer"], pl.col("price"), newest, MINUTE, 2 * DAY),
}
MACHINES = {
    **{
        f"lately_{name}_{window}": Column("reading", ["machine"], value, reduce, MINUTE, width, ago)
        for name, value, reduce in (
            ("vibration", pl.col("vibration"), mean),
            ("spread", pl.col("vibration"), spread),
            ("hottest", pl.col("temperature"), highest),
            ("silent", pl.col("temperature").is_null(), mean),
        )
        for window, width, ago in (("1d", DAY, 0), ("7d", 7 * DAY, 0), ("7d_ago_7d", 7 * DAY, 7 * DAY))
    },
    "failures_n_30d": Column("failure", ["machine"], ONE, count, HOUR, 30 * DAY),
    "repaired_downtime_h": Column("failure", ["machine"], pl.col("downtime_h"), newest, MINUTE, 60 * DAY),
}
DEMAND = {
    f"sold_{name}_{window}": Column("sale", ["store"], value, reduce, 5 * SECOND, width, ago)
    for name, value, reduce in (("n", ONE, count), ("mean", pl.col("amount"), mean))
    for window, width, ago in (
        ("1h", HOUR, 0),
        ("24h", 24 * HOUR, 0),
        ("1h_ago_23h", HOUR, 23 * HOUR),
        ("1h_ago_167h", HOUR, 167 * HOUR),
    )
}
TIMES = {"shown": "shown_at", "clicked": "clicked_at", "reading": "read_at", "failure": "failed_at"}
TIMES |= {"hour": "begins_at", "sale": "sold_at"}


def events(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / f"{name}.parquet").with_columns(at=pl.col(TIMES[name]).dt.epoch("ms"))


def recomputed(column: Column, asks: pl.DataFrame, folder: Path) -> Floats:
    """The feature of each ask."""
    rows = events(folder, column.of).with_columns(value=column.value.cast(pl.Float64)).sort("at")
    by_key = {
        key: (part["at"].to_numpy(), part["value"].fill_null(np.nan).to_numpy())
        for key, part in rows.group_by(*column.by, maintain_order=True)
    }
    nothing = (np.empty(0, np.int64), np.empty(0))
    found = np.empty(asks.height)
    for row, (at_ms, *key) in enumerate(asks.select("at", *column.by).iter_rows()):
        at, values = by_key.get(tuple(key), nothing)
        first, last = np.searchsorted(at, column.bounds(at_ms))
        found[row] = column.reduce(values[first:last])
    return found


@pytest.mark.parametrize(
    ("name", "ask", "key", "columns"),
    [
        ("clicks", "shown", "shown_id", CLICKS),
        ("machines", "reading", "reading_id", MACHINES),
        ("demand", "hour", "hour_id", DEMAND),
    ],
)
def test_training_rows_equal_an_offline_recomputation(
    name: str, ask: str, key: str, columns: Mapping[str, Column], tmp_path: Path
) -> None:
    runpy.run_path(str(EXAMPLES / name / "generate.py"))["generate"](tmp_path)
    loop = declaration.load(EXAMPLES / name)
    assert set(columns) == set(loop.features.names) - set(loop.features.row)
    rows = training_rows(loop, tmp_path)
    asks = pl.DataFrame({key: rows.keys.tolist()}).join(
        events(tmp_path, ask), on=key, how="left", maintain_order="left"
    )
    truth = pl.read_parquet(tmp_path / "truth.parquet")
    label = asks.join(truth, on=key, how="left", maintain_order="left")["label"].cast(pl.Float64)
    assert rows.at_ms.tolist() == asks["at"].to_list()
    assert rows.labels.tolist() == label.to_list()
    unlike = {}
    for feature, column in columns.items():
        there, here = rows.numbers[:, rows.number_names.index(feature)], recomputed(column, asks, tmp_path)
        assert np.isfinite(here).any()
        unlike[feature] = int((~np.isclose(there, here, rtol=1e-9, atol=1e-9, equal_nan=True)).sum())
    assert unlike == dict.fromkeys(columns, 0)


def training_rows(loop: Loop, folder: Path) -> Dataset:
    """All rows that the loop trains on in the end."""
    history = recording(loop, folder).history
    rows = history.matured(int(history.asks.at_ms[-1]), None)
    assert len(rows) > len(history.asks) / 2
    return rows
