"""The monitor's own batches as records, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.contracts import envelope, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.data import SCHEMAS
from trimtab.loops.labels import Asks, LabelEvents
from trimtab.monitor.core.joining import Joinables
from trimtab.monitor.core.ledger import Tip
from trimtab.monitor.core.observe import Named
from trimtab.monitor.core.predictions import Deployment, Predictions, Shadows
from trimtab.monitor.core.rows import Rows, unpack
from trimtab.monitor.core.settled import payloads
from trimtab.monitor.core.silence import HOUR_MS, floor
from trimtab.monitor.stages.decoding import LabelRows
from trimtab.runtime.records import Headers, Out, Read

_SIGNALS, _JOINABLE = AvroCodec(SCHEMAS["signals"]), AvroCodec(SCHEMAS["joinable"])
_SAMPLED = b"-01"
MOST_ROWS = 16_000
"""Rows in a record: a third of a megabyte. A stretch of many hours with little in each has more."""


def tips_of(records: Sequence[Read]) -> Sequence[Tip]:
    """The newest sampled record of each hour, oldest first. Our own carry `traceparent` last: looking is cheap."""
    found: dict[int, Tip] = {}
    for record in records:
        headers = record.headers
        if headers and headers[-1][0] == envelope.TRACEPARENT and headers[-1][1].endswith(_SAMPLED):
            tip = Tip(envelope.event_time_ms(headers), headers[-1][1].decode())
            start_ms = floor(tip.at_ms, HOUR_MS)
            found[start_ms] = max(tip, found.get(start_ms, tip))
    return [found[start_ms] for start_ms in sorted(found)]


@dataclass(frozen=True, slots=True)
class Writing:
    """Who writes: the task and its loop; `id` tells this batch from others of the task; `at_ms`: its event time."""

    loop: str
    task: str
    id: str
    at_ms: int

    def headers(self, kind: str, tip: Tip | None) -> Headers:
        """The headers of a record."""
        trace = None if tip is None else tip.traceparent
        return envelope.headers(self.id, kind, self.task, self.at_ms, trace)


def signals(writing: Writing, named: Named, deployments: Sequence[Deployment], tips: Sequence[Tip]) -> Sequence[Out]:
    """What a task saw, in as many records as keep each of them small and carry every tip."""
    pieces = [named.rows.take(slice(first, first + MOST_ROWS)) for first in range(0, len(named.rows), MOST_ROWS)]
    return [
        _signals(writing, (), Rows(), (), tip)
        if rows is None
        else _signals(writing, named.names, rows, deployments, tip)
        for rows, tip in zip_longest(pieces, tips)
    ]


def _signals(
    writing: Writing, names: Sequence[str], rows: Rows, deployments: Sequence[Deployment], tip: Tip | None
) -> Out:
    value = _SIGNALS.encode(
        {
            "task": writing.task,
            "names": list(names),
            "rows": rows.pack(),
            "deployments": [
                {"sequence": d.sequence, "version": d.version, "digest": d.digest, "first_ms": d.first_ms}
                for d in deployments
            ],
            "tip_at_ms": None if tip is None else tip.at_ms,
        }
    )
    return Out(topics.signals(writing.loop), None, value, writing.headers("signals", tip), partition=0)


@dataclass(frozen=True, slots=True)
class Seen:
    """A record of signals, read."""

    named: Named
    deployments: Sequence[Deployment]
    tip: Tip | None


def seen(record: Read) -> Seen:
    """The inverse of `signals`."""
    value = _SIGNALS.decode(record.value or b"")
    deployments = [Deployment(**d) for d in value["deployments"]]
    return Seen(Named(value["names"], unpack(value["rows"])), deployments, _tip(record, value["tip_at_ms"]))


def _tip(record: Read, at_ms: int | None) -> Tip | None:
    trace = envelope.traceparent(record.headers)
    return None if at_ms is None or trace is None else Tip(at_ms, trace)


@dataclass(frozen=True, slots=True)
class Routed:
    """What of a batch goes to one partition: asks, and rows of the label events."""

    asks: Sequence[Predictions]
    labels: LabelRows | None
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all partitions of a batch have in common.

    `predicted_in`: partition of the predictions. `keyed_alike`: label.by is the prediction's key. `source`: label
    events by start of bucket. `classes`: of the versions.
    """

    predicted_in: int
    keyed_alike: bool
    source: Sequence[tuple[int, int]]
    classes: Mapping[int, Sequence[str]]
    tip: Tip | None


def joinables(writing: Writing, partition: int, routed: Routed, shared: Shared) -> Out:
    """The record of asks and label events that meet in `partition`."""
    keyed_alike, tip = shared.keyed_alike, shared.tip
    value = {
        "task": writing.task,
        "partition": shared.predicted_in,
        **_asks(routed.asks, keyed_alike=keyed_alike),
        "classes": [{"version": v, "classes": list(c)} for v, c in shared.classes.items()],
        **_labels(routed),
        "source_ms": np.array([start for start, _ in shared.source], "<i8").tobytes(),
        "source_count": np.array([count for _, count in shared.source], "<i8").tobytes(),
        "tip_at_ms": None if tip is None else tip.at_ms,
    }
    headers = writing.headers("joinable", tip)
    return Out(topics.joinable(writing.loop), None, _JOINABLE.encode(value), headers, partition=partition)


def _asks(asks: Sequence[Predictions], *, keyed_alike: bool) -> dict[str, Any]:
    width = max((p.scores.shape[1] for p in asks), default=1)
    firsts = np.cumsum([0, *map(len, asks)]).tolist()
    return {
        "width": width,
        "ask_key": _texts([key for p in asks for key in p.key]),
        "ask_by": None if keyed_alike else _texts([by for p in asks for by in p.by]),
        "ask_at_ms": _packed([p.at_ms for p in asks], "<i8"),
        "ask_offset": _packed([p.offset for p in asks], "<i8"),
        "ask_version": _packed([p.version for p in asks], "<i4"),
        "ask_score": _packed([_wide(p.scores, width) for p in asks], "<f8"),
        "shadow_ask": _packed([p.shadows.row + first for p, first in zip(asks, firsts, strict=False)], "<i4"),
        "shadow_version": _packed([p.shadows.version for p in asks], "<i4"),
        "shadow_score": _packed([_wide(p.shadows.scores, width) for p in asks], "<f8"),
    }


def _wide(scores: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    if scores.shape[1] == width:
        return scores
    filled = np.zeros((len(scores), width))
    filled[:, : scores.shape[1]] = scores
    return filled


def _labels(routed: Routed) -> dict[str, Any]:
    labels, rows = routed.labels, routed.rows
    if labels is None or not len(rows):
        nothing = dict.fromkeys(("label_at_ms", "label_id", "label_number"), b"")
        return {"label_by": _texts([]), **nothing, "label_text": None}
    chosen = rows.tolist()
    texts = [text for row in chosen for text in labels.texts[row]]
    return {
        "label_by": _texts([labels.by[row] for row in chosen]),
        "label_at_ms": labels.at_ms[rows].astype("<i8").tobytes(),
        "label_id": labels.id[rows].astype("<i8").tobytes(),
        "label_number": labels.numbers[rows].astype("<f8").tobytes(),
        "label_text": _texts(texts) if texts else None,
    }


def joinable(record: Read) -> tuple[Joinables, Tip | None]:
    """The inverse of `joinables`."""
    value = _JOINABLE.decode(record.value or b"")
    width = value["width"]
    key = _from_texts(value["ask_key"])
    shadows = Shadows(
        _unpacked(value["shadow_ask"], "<i4"),
        _unpacked(value["shadow_version"], "<i4"),
        np.frombuffer(value["shadow_score"], "<f8").reshape(-1, width),
    )
    loads = payloads(
        value["partition"],
        _unpacked(value["ask_offset"], "<i8"),
        _unpacked(value["ask_version"], "<i4"),
        np.frombuffer(value["ask_score"], "<f8").reshape(-1, width),
        shadows,
    )
    by = key if value["ask_by"] is None else _from_texts(value["ask_by"])
    found = Joinables(
        asks=Asks([k or "" for k in key], [b or "" for b in by], _unpacked(value["ask_at_ms"], "<i8").tolist(), loads),
        events=_events(value),
        source=list(
            zip(
                _unpacked(value["source_ms"], "<i8").tolist(),
                _unpacked(value["source_count"], "<i8").tolist(),
                strict=True,
            )
        ),
        classes=[(c["version"], c["classes"]) for c in value["classes"]],
    )
    return found, _tip(record, value["tip_at_ms"])


def _events(value: Mapping[str, Any]) -> LabelEvents:
    by = _from_texts(value["label_by"])
    numbers = np.frombuffer(value["label_number"], "<f8").reshape(len(by), -1) if by else np.empty((0, 0))
    texts = [] if value["label_text"] is None else _from_texts(value["label_text"])
    each = len(texts) // len(by) if by else 0
    return LabelEvents(
        by=[b or "" for b in by],
        at_ms=_unpacked(value["label_at_ms"], "<i8").tolist(),
        id=_unpacked(value["label_id"], "<i8").tolist(),
        numbers=numbers.tolist(),
        texts=[texts[i * each : (i + 1) * each] for i in range(len(by))],
    )


def _texts(texts: Sequence[str | None]) -> dict[str, Any]:
    lengths = np.fromiter((-1 if t is None else len(t) for t in texts), "<i4", len(texts))
    return {"text": "".join([t for t in texts if t]), "lengths": lengths.tobytes()}


def _from_texts(packed: Mapping[str, Any]) -> list[str | None]:
    text: str = packed["text"]
    lengths = np.frombuffer(packed["lengths"], "<i4")
    ends = np.cumsum(np.maximum(lengths, 0)).tolist()
    return [None if n < 0 else text[end - n : end] for n, end in zip(lengths.tolist(), ends, strict=True)]


def _packed(parts: Sequence[NDArray[Any]], dtype: str) -> bytes:
    return b"".join(np.ascontiguousarray(part, dtype).tobytes() for part in parts)


def _unpacked(data: bytes, dtype: str) -> NDArray[np.int64]:
    return np.frombuffer(data, dtype).astype(np.int64)
