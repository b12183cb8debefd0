"""Feature vectors: what a model sees of an ask, the same in the stream, over HTTP and in a backtest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trimtab.loops.aggregates import Objects, plain_values
from trimtab.loops.columns import event_columns
from trimtab.loops.declaration.features import group_feature, latest_feature
from trimtab.loops.expressions import compile_row
from trimtab.loops.groups import TileGroup, tile_groups
from trimtab.loops.keys import key_texts, value_text
from trimtab.loops.model import Loop, Window
from trimtab.loops.online import OnlineStore
from trimtab.loops.partials import Floats, Ints
from trimtab.loops.rows import EventRows, Row


@dataclass(frozen=True, slots=True)
class VectorNames:
    """The columns of a loop's vectors, in the order of the declaration. `aged`: the features that were looked up."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    aged: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """n vectors, in columns of `names`.

    `numbers` float64 [n, k], NaN where missing (an infinity is no measurement: missing). `categories` objects [n, c],
    text, None where missing. `ages_ms` int64 [n, a]: from the newest event behind a looked-up value to the ask, -1
    where there was none.
    """

    names: VectorNames
    numbers: Floats
    categories: Objects
    ages_ms: Ints

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: NDArray[np.intp]) -> "Vectors":
        """Some of the vectors."""
        return Vectors(self.names, self.numbers[rows], self.categories[rows], self.ages_ms[rows])

    def replaced(self, numbers: Floats, categories: Objects) -> "Vectors":
        """The same vectors with other values."""
        return replace(self, numbers=numbers, categories=categories)


def names_of(loop: Loop) -> VectorNames:
    """The columns of a loop's vectors.

    Categories are told apart from numbers by the declaration; looked up is whatever comes from a group or latest.
    """
    categorical = set(loop.features.categorical)
    row = set(loop.features.row)
    names = loop.features.names
    return VectorNames(
        tuple(name for name in names if name not in categorical),
        tuple(name for name in names if name in categorical),
        tuple(name for name in names if name not in row),
    )


@dataclass(frozen=True, slots=True)
class _Looked:
    """A group's values in a vector: (value, window, feature)."""

    group: TileGroup
    features: Sequence[tuple[str, int, str]]


_AS_THEY_ARE = (pl.String(), pl.Int64(), pl.Float64(), pl.Boolean())
"""Columns of these types need no expression run over them."""


class Assembler:
    """Makes a loop's vectors. A vector depends on its ask, the ask's time and the tiles before that time alone."""

    def __init__(self, loop: Loop) -> None:
        self.names = names_of(loop)
        self.groups = tile_groups(loop)
        columns = event_columns(loop.asks)
        row = {name: compile_row(sql, columns) for name, sql in loop.features.row.items()}
        self._bare = {name: one for name, one in row.items() if one.bare and one.dtype in _AS_THEY_ARE}
        self._row = {name: one for name, one in row.items() if name not in self._bare}
        used = {column for expression in self._row.values() for column in expression.columns}
        self._rows = EventRows(loop.asks, used)
        self._looked = [_Looked(group, features_of(group)) for group in self.groups]
        self._number_at = {name: at for at, name in enumerate(self.names.numbers)}
        self._category_at = {name: at for at, name in enumerate(self.names.categories)}
        self._age_at = {name: at for at, name in enumerate(self.names.aged)}

    def assemble(self, asks: Sequence[Row], at_ms: Ints, store: OnlineStore) -> Vectors:
        """One vector an ask. `asks`: fields → physical values, as decoded; `at_ms` [n]: their event times."""
        n = len(asks)
        vectors = Vectors(
            self.names,
            np.full((n, len(self.names.numbers)), np.nan),
            np.full((n, len(self.names.categories)), None, dtype=object),
            np.full((n, len(self.names.aged)), -1, dtype=np.int64),
        )
        if n:
            self._fill_rows(asks, vectors)
            for looked in self._looked:
                self._fill_looked(looked, asks, at_ms, store, vectors)
            vectors.numbers[~np.isfinite(vectors.numbers)] = np.nan
        return vectors

    def _fill_rows(self, asks: Sequence[Row], vectors: Vectors) -> None:
        for name, one in self._bare.items():
            values = [ask.get(one.columns[0]) for ask in asks]
            if name in self._number_at:
                vectors.numbers[:, self._number_at[name]] = np.array(values, dtype=np.float64)
            else:
                texts = [None if value is None or value != value else value_text(value) for value in values]
                vectors.categories[:, self._category_at[name]] = texts
        if not self._row:
            return
        frame = self._rows.frame(asks).select_seq(one.expr.alias(name) for name, one in self._row.items())
        for series in frame.get_columns():
            self._put(series.name, plain_values(series), series.dtype, vectors)

    def _fill_looked(
        self, looked: _Looked, asks: Sequence[Row], at_ms: Ints, store: OnlineStore, vectors: Vectors
    ) -> None:
        group = looked.group
        finished = store.finish(group.digest, key_texts(asks, group.by), at_ms)
        dtypes = {value.name: value.expression.dtype for value in group.plan.values}
        for value, window, feature in looked.features:
            self._put(feature, finished.values[value][:, window], dtypes[value], vectors)
            vectors.ages_ms[:, self._age_at[feature]] = finished.ages_ms[:, window]

    def _put(self, name: str, values: Floats | Objects, dtype: pl.DataType, vectors: Vectors) -> None:
        if name in self._number_at:
            vectors.numbers[:, self._number_at[name]] = values
        else:
            vectors.categories[:, self._category_at[name]] = _categories(values, dtype)


def features_of(group: TileGroup) -> list[tuple[str, int, str]]:
    """(value, number of the window, feature) of everything a group gives to a vector."""
    return [
        (value.name, at, _feature(group, value.name, window))
        for value in group.plan.values
        for at, window in enumerate(group.windows)
    ]


def _feature(group: TileGroup, value: str, window: Window) -> str:
    return latest_feature(group.name, value) if group.newest_only else group_feature(group.name, value, window)


def _categories(values: Floats | Objects, dtype: pl.DataType) -> Objects:
    """Texts as they are, numbers and booleans as text."""
    if dtype == pl.String:
        return values.astype(object)
    plain = [None if value != value else bool(value) if dtype == pl.Boolean else value for value in values.tolist()]
    return np.array([None if value is None else value_text(value) for value in plain], dtype=object)
