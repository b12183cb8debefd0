"""Training rows as columns."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trimtab.ml.scoring import Categories

Labels = NDArray[np.float64] | NDArray[np.object_]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Rows with their labels, sorted by (at_ms, key).

    `numbers` [n, k] float64 (NaN missing), `categories` [n, c] text (None missing). `labels`: float64, 0/1 or the
    value; multiclass: the class as text. `versions`, `scores`: which model version predicted the row when it was
    asked, and what; -1 and NaN where none did.
    """

    number_names: tuple[str, ...]
    category_names: tuple[str, ...]
    keys: NDArray[np.object_]
    at_ms: NDArray[np.int64]
    numbers: NDArray[np.float64]
    categories: Categories
    labels: Labels
    versions: NDArray[np.int64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.at_ms)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Dataset":
        """The chosen rows, by mask or by position."""
        return replace(
            self,
            keys=self.keys[rows],
            at_ms=self.at_ms[rows],
            numbers=self.numbers[rows],
            categories=self.categories[rows],
            labels=self.labels[rows],
            versions=self.versions[rows],
            scores=self.scores[rows],
        )

    def between(self, from_ms: int, until_ms: int) -> "Dataset":
        """The rows with from_ms ≤ at_ms < until_ms (a view: rows are sorted by time)."""
        first, last = np.searchsorted(self.at_ms, [from_ms, until_ms])
        return self.take(np.s_[first:last])  # type: ignore[arg-type]  # a slice is a view where an index is a copy

    def digest(self) -> str:
        """sha256 of names and rows, independent of where and how they were stored."""
        sha = hashlib.sha256()
        for texts in (self.number_names, self.category_names):
            sha.update(_text_bytes(np.array(texts, dtype=object)))
        sha.update(_text_bytes(self.keys))
        sha.update(np.ascontiguousarray(self.at_ms, dtype="<i8").tobytes())
        sha.update(np.ascontiguousarray(_one_nan(self.numbers), dtype="<f8").tobytes())
        for column in self.categories.T:
            sha.update(_text_bytes(column))
        sha.update(_label_bytes(self.labels))
        return sha.hexdigest()


def _one_nan(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same values with one bit pattern for NaN and no negative zero."""
    return np.where(np.isnan(values), np.nan, values) + 0.0


def _label_bytes(labels: Labels) -> bytes:
    if labels.dtype == object:
        return _text_bytes(labels.astype(object))
    return np.ascontiguousarray(labels, dtype="<f8").tobytes()


def _text_bytes(texts: NDArray[np.object_]) -> bytes:
    """Texts with their lengths in bytes, None apart from all texts, so that no two columns share their bytes.

    >>> _text_bytes(np.array(["a", "bc"], dtype=object))
    b'\\x01\\x00\\x00\\x00\\x02\\x00\\x00\\x00abc'
    >>> _text_bytes(np.array(["é", None], dtype=object))
    b'\\x02\\x00\\x00\\x00\\xff\\xff\\xff\\xff\\xc3\\xa9'
    """
    found = texts.tolist()
    try:
        whole = "".join(found)
    except TypeError:  # something is missing
        whole = ""
    if whole and whole.isascii():  # most are, and need not be encoded one by one
        return _lengths(map(len, found), len(found)) + whole.encode()
    encoded = [None if text is None else str(text).encode() for text in found]
    lengths = _lengths((-1 if part is None else len(part) for part in encoded), len(encoded))
    return lengths + b"".join(part for part in encoded if part is not None)


def _lengths(values: Iterable[int], count: int) -> bytes:
    return np.fromiter(values, dtype="<i4", count=count).tobytes()
