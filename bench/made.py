"""A loop whose size can be chosen: purchases of so many customers, some of which come back, over so many partitions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from trimtab.loops import declaration
from trimtab.loops.model import Loop

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
DAYS = 12
LABELLED = 0.5
TOML = """\
[loop]
name = "{name}"
task = "binary"
partitions = {partitions}
[events]
bought = {{ schema = "bought.avsc", id = "id", time = "at" }}
returned = {{ schema = "returned.avsc", id = "id", time = "at" }}
[predict]
on = "bought"
key = "id"
[label]
of = "returned"
by = ["id"]
within = "1d"
value = "count() > 0"
settle = "close"
[features.row]
price = "price"
[features.groups.customer]
of = "bought"
by = ["customer"]
windows = ["1h", "1d", "7d"]
values = {{ n = "count()", spent = "sum(price)", price = "avg(price)" }}
[features.groups.back]
of = "returned"
by = ["customer"]
windows = ["7d"]
values = {{ n = "count()" }}
[model]
estimator = "sklearn.linear_model.LogisticRegression"
metric = "log_loss"
[train]
first_after = {{ rows = 2000, positives = 100 }}
[gate]
holdout = "1d"
block = "1h"
[retrain]
on = []
cooldown = "300d"
"""
SCHEMA = """\
{{ "type": "record", "name": "{event}", "namespace": "bench", "fields": [
  {{"name": "id", "type": "string"}},
  {{"name": "at", "type": {{"type": "long", "logicalType": "timestamp-millis"}}}},
  {{"name": "customer", "type": "string"}},
  {{"name": "price", "type": "double"}} ] }}
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a generated loop is. `events`: of both kinds, about."""

    events: int
    entities: int
    partitions: int

    @property
    def name(self) -> str:
        """The loop's name."""
        return f"made_{self.events // 1000}k_{self.entities}_{self.partitions}"


def made(folder: Path, size: Size, now_ms: int) -> Loop:
    """Write the declaration and the events of some days that end now."""
    folder.mkdir(parents=True)
    (folder / declaration.FILE).write_text(TOML.format(name=size.name, partitions=size.partitions))
    for event in ("bought", "returned"):
        (folder / f"{event}.avsc").write_text(SCHEMA.format(event=event))
    bought = _bought(size, now_ms)
    (folder / "data").mkdir()
    bought.write_parquet(folder / "data" / "bought.parquet")
    _returned(bought).write_parquet(folder / "data" / "returned.parquet")
    return declaration.load(folder)


def _bought(size: Size, now_ms: int) -> pl.DataFrame:
    rng, rows = np.random.default_rng(1), round(size.events / (1 + LABELLED))
    at_ms = np.sort(rng.integers(now_ms - DAYS * DAY_MS, now_ms - DAY_MS, rows))
    return pl.DataFrame(
        {
            "id": [f"b{number}" for number in range(rows)],
            "at": pl.Series(at_ms).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"),
            "customer": [f"c{number}" for number in rng.integers(0, size.entities, rows)],
            "price": rng.gamma(3.0, 10.0, rows).round(2),
        }
    )


def _returned(bought: pl.DataFrame) -> pl.DataFrame:
    """Dear purchases come back more often."""
    rng = np.random.default_rng(2)
    back = rng.random(bought.height) < LABELLED * bought["price"].to_numpy() / 30.0
    later = pl.Series(rng.integers(HOUR_MS, 20 * HOUR_MS, bought.height)).cast(pl.Duration("ms"))
    return bought.with_columns(pl.col("at") + later).filter(pl.Series(back)).sort("at")
