"""Predictions as Avro, a column at a time: a vector has many fields, and a union's branch costs Avro's own writer most.

The bytes are those that `AvroCodec` makes of what `Writer.values` gives; a test holds the two against each other.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby, repeat
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from trimtab.contracts.codec import MARKER, fingerprint
from trimtab.loops.incoming.encoding import texts, varints
from trimtab.loops.keys import value_text
from trimtab.loops.vectors import Vectors, names_of
from trimtab.predictor.core.predictions import Ask, Deployment, Said, Scored, Writer

_NULL, _VALUE, _END = b"\x00", b"\x02", b"\x00"
_DOUBLE_BYTES, _LONG_BYTES = 9, 11
_SEPTET = np.uint64(7)
_double = Struct("<d").pack


class Encoder:
    """Encodes scored vectors by a writer's schema. Immutable."""

    def __init__(self, writer: Writer) -> None:
        loop, names = writer.loop, names_of(writer.loop)
        self._key, self._by = loop.predict.key, loop.label.by
        self._head = MARKER + fingerprint(writer.schema)
        at = {name: at for names in (names.numbers, names.categories) for at, name in enumerate(names)}
        runs = groupby(loop.features.names, key=set(names.numbers).__contains__)
        self._runs = [(numeric, [at[name] for name in run]) for numeric, run in runs]
        self._digest = _text(loop.features.digest)
        self._tail = _text(writer.origin) + _long(loop.version)

    def encode(
        self,
        asks: Sequence[Ask],
        at_ms: Sequence[int],
        as_of_ms: Sequence[int],
        vectors: Vectors,
        scored: Sequence[Scored],
    ) -> list[bytes]:
        """One message an ask."""
        columns: list[Iterable[bytes]] = [
            repeat(self._head),
            texts([value_text(ask[self._key]) for ask in asks]),
            varints(at_ms),
            *(_features(vectors, numeric, run) for numeric, run in self._runs),
            nullable_longs(vectors.ages_ms),
            varints(as_of_ms),
            repeat(self._digest),
            [verdict(one) for one in scored],
            repeat(self._tail),
            [_array(texts([value_text(ask[name]) for name in self._by])) for ask in asks],
        ]
        return [b"".join(row) for row in zip(*columns, strict=False)]


def _features(vectors: Vectors, numeric: bool, columns: Sequence[int]) -> list[bytes]:
    """Neighbouring features of one kind."""
    if numeric:
        return nullable_doubles(vectors.numbers[:, columns])
    rows = vectors.categories[:, columns].tolist()
    return [b"".join([_NULL if text is None else _VALUE + _text(text) for text in row]) for row in rows]


def nullable_doubles(numbers: NDArray[np.float64]) -> list[bytes]:
    """The unions of null and double of each row, NaN being null."""
    n, width = numbers.shape
    octets = np.empty((n, width, _DOUBLE_BYTES), np.uint8)
    null = np.isnan(numbers)
    octets[:, :, 0] = np.where(null, 0, 2)
    octets[:, :, 1:] = np.ascontiguousarray(numbers, "<f8").view(np.uint8).reshape(n, width, 8)
    kept = np.ones(octets.shape, np.bool_)
    kept[:, :, 1:] = ~null[:, :, None]
    return _cut(octets.reshape(n, -1), kept.reshape(n, -1))


def nullable_longs(values: NDArray[np.int64]) -> list[bytes]:
    """The unions of null and long of each row, below 0 being null."""
    n, width = values.shape
    null = values < 0
    left = np.where(null, 0, values).astype(np.uint64) << np.uint64(1)
    octets = np.zeros((n, width, _LONG_BYTES), np.uint8)
    kept = np.zeros(octets.shape, np.bool_)
    octets[:, :, 0], kept[:, :, 0] = np.where(null, 0, 2), True
    kept[:, :, 1] = ~null
    for place in range(1, _LONG_BYTES):
        rest = left >> _SEPTET
        octets[:, :, place] = (left & np.uint64(0x7F)).astype(np.uint8) | np.where(rest > 0, 0x80, 0).astype(np.uint8)
        if not rest.any():
            break
        kept[:, :, place + 1] = rest > 0
        left = rest
    return _cut(octets.reshape(n, -1), kept.reshape(n, -1))


def _cut(octets: NDArray[np.uint8], kept: NDArray[np.bool_]) -> list[bytes]:
    """The kept octets of each row."""
    data = octets[kept].tobytes()
    ends = np.cumsum(kept.sum(axis=1)).tolist()
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def verdict(one: Scored) -> bytes:
    """The fields from `score` to `shadows`."""
    deployment = one.deployment
    arm = _NONE if one.champion is None else _CHAMPION
    if deployment is None:
        return _said(one.champion) + arm + _NULL + _NULL + _NULL + _END
    champion = deployment.champion
    model = _NULL + _NULL if champion is None else _nullable_model(champion.version, champion.digest)
    return b"".join([_said(one.champion), arm, model, _VALUE, _long(deployment.sequence), _shadows(deployment, one)])


def _shadows(deployment: Deployment, one: Scored) -> bytes:
    pairs = zip(deployment.shadows, one.shadows, strict=True)
    return _array([_model(model.version, model.digest) + _said(word) for model, word in pairs])


def _said(word: Said | None) -> bytes:
    """`score`, `class` and `probabilities`."""
    if word is None:
        return _NULL + _NULL + _END
    if word.class_ is None:
        return _VALUE + _double(word.score) + _NULL + _END
    probabilities = _array([_double(one) for one in word.probabilities])
    return _VALUE + _double(word.score) + _VALUE + _text(word.class_) + probabilities


@lru_cache(maxsize=64)
def _model(version: int, digest: str) -> bytes:
    return _long(version) + _text(digest)


@lru_cache(maxsize=64)
def _nullable_model(version: int, digest: str) -> bytes:
    return _VALUE + _long(version) + _VALUE + _text(digest)


def _array(items: Sequence[bytes]) -> bytes:
    return b"".join([_long(len(items)), *items, _END]) if items else _END


def _long(value: int) -> bytes:
    return varints([value])[0]


@lru_cache(maxsize=4_096)
def _text(text: str) -> bytes:
    return texts([text])[0]


_NONE, _CHAMPION = _text("none"), _text("champion")
