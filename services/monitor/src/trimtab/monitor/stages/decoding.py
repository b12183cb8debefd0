"""Records as columns: predictions, label events, rejected events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trimtab.contracts import envelope
from trimtab.contracts.codec import HEADER_BYTES, MARKER, Reader, Schema, fingerprint
from trimtab.contracts.columnar import NO_LONG, ColumnReader, Columns, Items
from trimtab.contracts.data import SCHEMAS
from trimtab.contracts.errors import UnknownFingerprintError
from trimtab.contracts.prediction import field_name, prediction_schema
from trimtab.loops.columns import event_columns
from trimtab.loops.keys import key_text
from trimtab.loops.labels import LabelWindow
from trimtab.loops.model import Loop
from trimtab.loops.rows import EventReader, EventRows
from trimtab.loops.vectors import names_of
from trimtab.monitor.core.predictions import NO_MODEL, Floats, Ints, Predictions, Shadows
from trimtab.runtime.records import Read

_OF_PREDICTION = (
    *("key", "by", "at_ms", "origin", "features", "score", "probabilities"),
    *("version", "model_digest", "deployment", "shadows"),
)


class Schemas(Protocol):
    """Schemas that writers have published."""

    def get(self, mark: bytes) -> Schema | None:
        """The schema with that fingerprint; None while it is not known."""
        ...


def keyed_alike(loop: Loop) -> bool:
    """Whether label.by is the prediction's key, so that a prediction and its label have one key."""
    return list(loop.label.by) == [loop.predict.key]


class PredictionReader:
    """Decodes a loop's predictions, those of earlier declarations too: a feature they lack is missing."""

    def __init__(self, loop: Loop, schemas: Schemas) -> None:
        vector = names_of(loop)
        self._numbers = [field_name(name) for name in vector.numbers]
        self._categories = [field_name(name) for name in vector.categories]
        schema = prediction_schema(loop.name, loop.features.names, categorical=vector.categories, aged=vector.aged)
        self._multiclass, self._schemas = loop.task == "multiclass", schemas
        self._wanted = [name for name in _OF_PREDICTION if name != "by" or not keyed_alike(loop)]
        self._readers = {fingerprint(schema): ColumnReader(schema, self._wanted)}

    def read(self, records: Sequence[Read]) -> Sequence[Predictions]:
        """The predictions, a part for each schema they were written with. Raises UnknownFingerprintError."""
        by_mark = dict[bytes, list[Read]]()
        for record in records:
            by_mark.setdefault(_mark(record.value or b""), []).append(record)
        return [self._part(self._reader(mark), part) for mark, part in by_mark.items()]

    def _reader(self, mark: bytes) -> ColumnReader:
        known = self._readers.get(mark)
        if known is None:
            schema = self._schemas.get(mark)
            if schema is None:
                raise UnknownFingerprintError(mark)
            known = self._readers[mark] = ColumnReader(schema, self._wanted)
        return known

    def _part(self, reader: ColumnReader, records: Sequence[Read]) -> Predictions:
        columns = reader.read([record.value or b"" for record in records])
        n = len(records)
        features, key = columns["features"], columns["key"].tolist()
        scores = self._scores(columns["score"], columns["probabilities"])
        shadows = self._shadows(columns["shadows"])
        width = max(scores.shape[1], shadows.scores.shape[1])
        return Predictions(
            key=key,
            by=_by(columns["by"], n) if "by" in columns else key,
            at_ms=columns["at_ms"],
            offset=np.fromiter((record.offset for record in records), np.int64, n),
            version=np.where(columns["version"] == NO_LONG, NO_MODEL, columns["version"]),
            sequence=np.where(columns["deployment"] == NO_LONG, -1, columns["deployment"]),
            digests=_digests(columns),
            scores=_widened(scores, width),
            numbers=_columns([features.get(name) for name in self._numbers], n, np.full(n, np.nan), np.float64),
            categories=_columns([features.get(name) for name in self._categories], n, np.full(n, None), object),
            streamed=columns["origin"] == "stream",
            shadows=replace(shadows, scores=_widened(shadows.scores, width)),
        )

    def _width(self, probabilities: Items) -> int:
        counts = np.bincount(probabilities.row) if self._multiclass else np.empty(0, np.int64)
        return max(int(counts.max(initial=1)), 1)

    def _scores(self, score: Floats, probabilities: Items) -> Floats:
        """[n, width] the score, or the classes' probabilities; NaN where nothing was said."""
        if not self._multiclass:
            return score[:, None]
        found = np.where(np.isnan(score)[:, None], np.nan, np.zeros((len(score), self._width(probabilities))))
        if len(probabilities.row):
            found[probabilities.row, _places(probabilities.row)] = probabilities.values
        return found

    def _shadows(self, shadows: Items) -> Shadows:
        if shadows.values is None:
            return Shadows(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 1)))
        scores = self._scores(shadows.values["score"], shadows.values["probabilities"])
        return Shadows(shadows.row, shadows.values["version"], scores)


def _widened(scores: Floats, width: int) -> Floats:
    """Scores with columns for the classes that only others know: 0, or NaN where nothing was said."""
    blank = np.where(np.isnan(scores[:, :1]), np.nan, 0.0)
    return np.hstack([scores, np.repeat(blank, width - scores.shape[1], axis=1)])


def _digests(columns: Columns) -> Mapping[int, str]:
    """Version → digest, of champions and shadows."""
    found = dict(zip(columns["version"].tolist(), columns["model_digest"].tolist(), strict=True))
    found.pop(NO_LONG, None)
    shadows = columns["shadows"].values
    if shadows is not None:
        found |= dict(zip(shadows["version"].tolist(), shadows["model_digest"].tolist(), strict=True))
    return found


def _places(row: Ints) -> Ints:
    """Each item's place among those of its row."""
    first = np.searchsorted(row, row)
    return np.arange(len(row)) - first


def _by(items: Items, n: int) -> list[str]:
    """The values of label.by as one text a row."""
    values: list[list[str]] = [[] for _ in range(n)]
    for row, value in zip(items.row.tolist(), [] if items.values is None else items.values.tolist(), strict=True):
        values[row].append(value)
    return [key_text(row) or "" for row in values]


def _columns(found: Sequence[NDArray[Any] | None], n: int, missing: NDArray[Any], dtype: type) -> NDArray[Any]:
    whole: NDArray[Any] = np.empty((n, len(found)), dtype)
    for place, column in enumerate(found):
        whole[:, place] = missing if column is None else column
    return whole


@dataclass(frozen=True, slots=True)
class LabelRows:
    """Label events whose `by` has values: one index a row. `numbers` [n, k], `texts` n rows: the label's arguments."""

    by: Sequence[str]
    at_ms: Ints
    id: Ints
    numbers: Floats
    texts: Sequence[Sequence[str | None]]
    records: Sequence[Read]


class LabelReader:
    """Decodes the events that give labels, and evaluates what the label's aggregates take of them."""

    def __init__(self, loop: Loop, schemas: Schemas) -> None:
        event = loop.events[loop.label.of]
        self.window = LabelWindow(loop.label, event_columns(event), loop.task)
        self._by = tuple(loop.label.by)
        needed = {name for argument in self.window.plan.arguments for name in argument.row.columns}
        self._mark, self._events = fingerprint(event.schema), EventReader(event, (*self._by, *sorted(needed)))
        self._rows = EventRows(event, needed)
        self._schemas = schemas
        self._others = {self._mark: Reader({self._mark: event.schema})}

    def read(self, records: Sequence[Read], at_ms: Ints, ids: Sequence[int]) -> LabelRows:
        """The label events among the records, of these times and ids. Raises UnknownFingerprintError."""
        values = [record.value or b"" for record in records]
        if all(_mark(value) == self._mark for value in values):
            found = self._events.read(values)
            fields, frame = found.values, found.frame
        else:
            rows = [self._other(_mark(value)).decode(value) for value in values]
            fields, frame = {name: [row.get(name) for row in rows] for name in self._by}, self._rows.frame(rows)
        keys = [key_text(one) for one in zip(*(fields[name] for name in self._by), strict=True)]
        kept = [place for place, key in enumerate(keys) if key is not None]
        numbers, texts = self.window.arguments(frame[kept])
        return LabelRows(
            by=[keys[place] or "" for place in kept],
            at_ms=at_ms[kept],
            id=np.fromiter((ids[p] for p in kept), np.int64, len(kept)),
            numbers=numbers,
            texts=texts,
            records=[records[place] for place in kept],
        )

    def _other(self, mark: bytes) -> Reader:
        """A reader of what was declared before (or, beside it, of what is declared now)."""
        known = self._others.get(mark)
        if known is None:
            schema = self._schemas.get(mark)
            if schema is None:
                raise UnknownFingerprintError(mark)
            known = self._others[mark] = Reader({mark: schema})
        return known


def _mark(value: bytes) -> bytes:
    """The fingerprint of the schema that a value was written with."""
    return value[len(MARKER) : HEADER_BYTES]


_REJECTED = ColumnReader(SCHEMAS["rejected"], ("event", "rule"))
_TOO_OLD = "too_old"


def rejected(records: Sequence[Read], otherwise_ms: int) -> Mapping[str, Ints]:
    """Times of rejected events by their name, as ingest dates them; `otherwise_ms` for those that are too old."""
    columns = _REJECTED.read([record.value or b"" for record in records])
    times = dict[str, list[int]]()
    for event, rule, record in zip(columns["event"].tolist(), columns["rule"].tolist(), records, strict=True):
        at_ms = otherwise_ms if rule == _TOO_OLD else envelope.event_time_ms(record.headers)
        times.setdefault(event, []).append(at_ms)
    return {event: np.array(found, np.int64) for event, found in times.items()}
