"""A model once more: the same rows, recipe and seed have to give the same bytes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from trimtab.contracts import topics
from trimtab.contracts.control import ModelTrained, OffsetRange
from trimtab.loops.model import Loop
from trimtab.ml import packaging, training
from trimtab.ml.datasets import Dataset
from trimtab.runtime.bus import Bus
from trimtab.store.blobs import Blobs
from trimtab.trainer.adapters.cache import Range, stretch
from trimtab.trainer.adapters.columns import OUTCOMES, from_table, matured
from trimtab.trainer.adapters.columns import predictions as predictions_of
from trimtab.trainer.core import cut
from trimtab.trainer.errors import RangeGoneError


@dataclass(frozen=True, slots=True)
class Again:
    """What came of fitting a model again.

    `source`: where the rows came from. `rows_digest`, `digest`: of the rows and of the model made now. `changed`: name
    → (then, now) of libraries that have another version.
    """

    source: Literal["log", "blob"]
    rows: int
    rows_digest: str
    digest: str
    changed: dict[str, tuple[str, str]]


async def again(bus: Bus, blobs: Blobs, loop: Loop, trained: ModelTrained) -> Again:
    """Fit a model again from the log, or from the blob of its rows when the log does not hold them any more.

    `loop`: as it was declared then. Raises TrainingError's and ModelError's subclasses, StoreError.
    """
    source: Literal["log", "blob"] = "log"
    try:
        rows = await from_log(bus, loop, trained)
    except RangeGoneError:
        source, rows = "blob", from_blob(blobs, loop, trained)
    fitted = training.fit(loop.model, loop.task, rows, trained.seed)
    return Again(source, len(rows), rows.digest(), packaging.package(fitted, rows).digest, changed(trained))


async def from_log(bus: Bus, loop: Loop, trained: ModelTrained) -> Dataset:
    """The rows from the ranges that the model names. Raises RangeGoneError."""
    predictions = await stretch(bus, _ranges(trained, topics.predictions(loop.name)), predictions_of(loop))
    outcomes = await stretch(bus, _ranges(trained, topics.outcomes(loop.name)), OUTCOMES)
    rows = matured(loop, predictions, outcomes, trained.at_ms)
    return cut(loop, rows, trained.at_ms).fit if trained.gate.verdict == "failed" else rows


def from_blob(blobs: Blobs, loop: Loop, trained: ModelTrained) -> Dataset:
    """The rows as they were kept."""
    return from_table(loop, pl.read_parquet(io.BytesIO(blobs.get(trained.dataset.blob))))


def changed(trained: ModelTrained) -> dict[str, tuple[str, str]]:
    """Libraries with another version now than then."""
    now = training.package_versions()
    then = trained.environment.packages
    return {name: (then.get(name, "none"), now[name]) for name in sorted(now) if then.get(name) != now[name]}


def _ranges(trained: ModelTrained, topic: str) -> Sequence[Range]:
    return [_range(one) for one in trained.dataset.ranges if one.topic == topic]


def _range(one: OffsetRange) -> Range:
    return Range(one.topic, one.topic_id, one.partition, one.from_, one.to)
