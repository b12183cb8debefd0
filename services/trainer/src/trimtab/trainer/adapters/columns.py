"""Predictions and outcomes of a log as columns: what of each record training needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trimtab.contracts import data
from trimtab.contracts.codec import MARKER, Schema
from trimtab.contracts.columnar import NO_LONG, ColumnReader
from trimtab.contracts.prediction import field_name, prediction_schema
from trimtab.loops.model import Loop
from trimtab.loops.vectors import names_of
from trimtab.ml.datasets import Dataset
from trimtab.runtime.records import Read
from trimtab.runtime.schemas import every
from trimtab.trainer.core.rows import Outcomes, chosen

Frame = Callable[[Sequence[Read]], pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Reading:
    """How the records of a topic become columns: all in one Avro schema, then by `frame`.

    `use`: whether records of another version's schema are worth it.
    """

    schema: Schema
    frame: Frame
    use: Callable[[Schema], bool] = every


OUTCOME: dict[str, type[pl.DataType]] = {
    "prediction_partition": pl.Int32,
    "prediction_offset": pl.Int64,
    "settled_at_ms": pl.Int64,
    "revision": pl.Int32,
    "labelled": pl.Boolean,
    "suspect": pl.Boolean,
    "label": pl.Float64,
    "label_class": pl.String,
}
_READ = [name for name in OUTCOME if name != "labelled"]


def names(loop: Loop) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The numbers and the categories of a loop's vectors, each in the order of the vector."""
    categorical = set(loop.features.categorical)
    numbers = tuple(name for name in loop.features.names if name not in categorical)
    return numbers, tuple(name for name in loop.features.names if name in categorical)


def prediction_frame(loop: Loop, schema: Mapping[str, Any]) -> Frame:
    """Reads predictions made with the loop's present features; the others teach nothing and are left out."""
    reader = ColumnReader(schema, ["key", "at_ms", "version", "score", "features", "features_digest"])
    head = MARKER + reader.fingerprint
    numbers, categories = names(loop)

    def frame(records: Sequence[Read]) -> pl.DataFrame:
        known = [record for record in records if record.value is not None and record.value.startswith(head)]
        found = reader.read([record.value or b"" for record in known])
        features = found["features"]
        rows = pl.DataFrame(
            {
                **_place(known),
                "key": pl.Series(found["key"].tolist(), dtype=pl.String),
                "at_ms": found["at_ms"],
                "version": pl.Series(found["version"]).replace(NO_LONG, None),
                "score": pl.Series(found["score"]).fill_nan(None),
                **{column(name): pl.Series(features[field_name(name)]).fill_nan(None) for name in numbers},
                **{column(n): pl.Series(features[field_name(n)].tolist(), dtype=pl.String) for n in categories},
            }
        )
        return rows.filter(pl.Series(found["features_digest"].tolist(), dtype=pl.String) == loop.features.digest)

    return frame


def _place(records: Sequence[Read]) -> dict[str, pl.Series]:
    return {
        "partition": pl.Series([record.partition for record in records], dtype=pl.Int32),
        "offset": pl.Series([record.offset for record in records], dtype=pl.Int64),
    }


def column(feature: str) -> str:
    """The column of a feature, apart from the others."""
    return f"feature {feature}"


def outcome_frame(records: Sequence[Read]) -> pl.DataFrame:
    """Reads outcomes."""
    found = ColumnReader(data.SCHEMAS["outcome"], [*_READ, "status"]).read([record.value or b"" for record in records])
    labelled = [status == "labelled" for status in found["status"].tolist()]
    values = {name: found[name].tolist() for name in _READ} | {"labelled": labelled}
    frame = pl.DataFrame({name: values[name] for name in OUTCOME}, schema=OUTCOME)
    return frame.with_columns(pl.col("label").fill_nan(None))


OUTCOMES = Reading(data.SCHEMAS["outcome"], outcome_frame)


def predictions(loop: Loop) -> Reading:
    """How the loop's predictions are read: those of other features are left as they are, and so left out."""
    known = names_of(loop)
    schema = prediction_schema(loop.name, loop.features.names, categorical=known.categories, aged=known.aged)

    def use(writer: Schema) -> bool:
        return bool(_features(writer) == _features(schema))

    return Reading(schema, prediction_frame(loop, schema), use)


def _features(schema: Schema) -> Any:
    return next((field["type"] for field in schema.get("fields", ()) if field["name"] == "features"), None)


def matured(loop: Loop, predictions: pl.DataFrame, outcomes: pl.DataFrame, at_ms: int) -> Dataset:
    """The rows to train on at event time `at_ms`."""
    known = settled(loop, predictions, outcomes)
    rows, of = chosen(loop, texts(predictions["key"]), predictions["at_ms"].to_numpy(), known, at_ms)
    return replace(dataset(loop, predictions[rows]), labels=known.labels[of])


def settled(loop: Loop, predictions: pl.DataFrame, outcomes: pl.DataFrame) -> Outcomes:
    """Outcomes as the core takes them; those of predictions that are not there are left out."""
    placed = predictions.with_row_index("row").select("row", "partition", "offset")
    joined = outcomes.join(
        placed, left_on=["prediction_partition", "prediction_offset"], right_on=["partition", "offset"], how="inner"
    )
    return Outcomes(
        row=joined["row"].cast(pl.Int64).to_numpy(),
        settled_at_ms=joined["settled_at_ms"].to_numpy(),
        revision=joined["revision"].cast(pl.Int64).to_numpy(),
        labelled=joined["labelled"].to_numpy(),
        suspect=joined["suspect"].to_numpy(),
        labels=texts(joined["label_class"]) if loop.task == "multiclass" else floats(joined, "label"),
    )


def dataset(loop: Loop, rows: pl.DataFrame) -> Dataset:
    """Rows of `prediction_frame` without labels."""
    numbers, categories = names(loop)
    n = len(rows)
    return Dataset(
        number_names=numbers,
        category_names=categories,
        keys=texts(rows["key"]),
        at_ms=rows["at_ms"].to_numpy(),
        numbers=rows.select(map(filled, map(column, numbers))).to_numpy(order="c") if numbers else np.empty((n, 0)),
        categories=np.column_stack([texts(rows[column(name)]) for name in categories])
        if categories
        else np.empty((n, 0), dtype=object),
        labels=np.full(n, np.nan),
        versions=rows["version"].fill_null(-1).to_numpy(),
        scores=floats(rows, "score"),
    )


def filled(name: str) -> pl.Expr:
    """A column of numbers; null is NaN."""
    return pl.col(name).cast(pl.Float64).fill_null(float("nan"))


def floats(rows: pl.DataFrame, name: str) -> NDArray[np.float64]:
    """One of them."""
    return rows.select(filled(name))[name].to_numpy()


def texts(values: pl.Series) -> NDArray[np.object_]:
    """Null is None."""
    found = np.empty(len(values), dtype=object)
    found[:] = values.to_list()
    return found


TAKEN = ("key", "at_ms", "label")


def shown(feature: str) -> str:
    """The column of a feature in a dataset: its name, unless that is taken."""
    return column(feature) if feature in TAKEN else feature


def table(rows: Dataset) -> pl.DataFrame:
    """A dataset as `trimtab dataset` and its blob show it: key, at_ms, the features by name, label."""
    found: dict[str, pl.Series] = {
        "key": pl.Series(rows.keys.tolist(), dtype=pl.String),
        "at_ms": pl.Series(rows.at_ms),
    }
    for name, values in zip(rows.number_names, rows.numbers.T, strict=True):
        found[shown(name)] = pl.Series(np.ascontiguousarray(values)).fill_nan(None)
    for name, values in zip(rows.category_names, rows.categories.T, strict=True):
        found[shown(name)] = pl.Series(values.tolist(), dtype=pl.String)
    found["label"] = pl.Series(rows.labels.tolist(), dtype=pl.String if rows.labels.dtype == object else pl.Float64)
    return pl.DataFrame(found)


def from_table(loop: Loop, frame: pl.DataFrame) -> Dataset:
    """The inverse of `table`. What was predicted at the time is not in it."""
    renamed = frame.rename({shown(name): column(name) for name in loop.features.names})
    unscored = renamed.with_columns(version=pl.lit(None, dtype=pl.Int64), score=pl.lit(None, dtype=pl.Float64))
    labels = texts(frame["label"]) if frame["label"].dtype == pl.String else frame["label"].to_numpy()
    return replace(dataset(loop, unscored), labels=labels)
