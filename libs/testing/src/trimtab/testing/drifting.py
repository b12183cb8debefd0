"""A loop that closes within four days of event time: a first model, a change that it cannot know, a second model.

Offers are the likelier clicked the cheaper they are, until from one hour on nearly all are, whatever they cost. The two
models spend the budget.
"""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trimtab.loops.model import Loop
from trimtab.testing.declarations import SCHEMAS, made

HOUR_MS = 3_600_000
START_MS = 1_700_006_400_000
"""A midnight."""
EACH = 50
"""Offers in an hour."""
FIT_HOURS = 6
"""What a fit takes in event time: whoever feeds no more than that at a time has the model before it is due."""
TURNS_AT, HOURS = 72, 90
"""The hour from which everything is clicked; by the last hour the second model predicts."""
TOML = f"""
[loop]
name = "offers"
task = "binary"
lateness = "10m"
[events]
offer = {{ schema = "offer.avsc", id = "offer_id", time = "shown_at" }}
click = {{ schema = "click.avsc", id = "click_id", time = "clicked_at" }}
[predict]
on = "offer"
key = "offer_id"
[label]
of = "click"
by = ["offer_id"]
within = "2h"
value = "count() > 0"
settle = "first"
[features]
categorical = ["place"]
[features.row]
place = "place"
price = "price"
[model]
estimator = "sklearn.linear_model.LogisticRegression"
[train]
first_after = {{ rows = 2000, positives = 100 }}
window = "4d"
fit_time = "{FIT_HOURS}h"
[gate]
holdout = "1d"
block = "3h"
watch = "1d"
baselines = []
[drift]
false_alarms = "1 per 3d"
season = "1d"
[retrain]
on = ["loss"]
grown = 50.0
cooldown = "1h"
budget = "2 per 10d"
"""
Happened = tuple[str, str, int, dict[str, Any]]
"""An event: its name, its id, when, its body."""


def loop() -> Loop:
    """The loop, declared."""
    return made(tomllib.loads(TOML))


def hour_ms(hour: int) -> int:
    """When an hour begins."""
    return START_MS + hour * HOUR_MS


def happened(hour: int) -> Iterator[Happened]:
    """What happens in an hour; the same each time."""
    rng = np.random.default_rng(hour)
    for i in range(EACH):
        key, at_ms, price = f"o{hour}-{i}", hour_ms(hour) + i * 70_000, float(rng.normal(10, 3))
        yield "offer", key, at_ms, {"offer_id": key, "shown_at": at_ms, "place": "top", "price": price}
        if rng.random() < (0.8 if hour >= TURNS_AT else 1 / (1 + np.exp(price - 9))):
            yield (
                "click",
                f"c{key}",
                at_ms + 90_000,
                {
                    "click_id": f"c{key}",
                    "offer_id": key,
                    "clicked_at": at_ms + 90_000,
                },
            )


def write(folder: Path) -> None:
    """The loop's folder, with everything that happens in `data`."""
    (folder / "data").mkdir(parents=True)
    (folder / "loop.toml").write_text(TOML)
    every = [one for hour in range(HOURS) for one in happened(hour)]
    for name, schema in SCHEMAS.items():
        (folder / f"{name}.avsc").write_text(json.dumps(schema))
        frame = pl.DataFrame([body for event, _, _, body in every if event == name])
        times = pl.col("^.*_at$").cast(pl.Datetime("ms", "UTC"))
        frame.with_columns(times).write_parquet(folder / "data" / f"{name}.parquet")
