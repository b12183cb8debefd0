"""A loop's past, written to its topics: predictions without a model, and their outcomes."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np

from trimtab.contracts import data, envelope, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.prediction import prediction_schema
from trimtab.loops.model import Loop
from trimtab.runtime.edge import Placed
from trimtab.runtime.records import Out

DAY_MS = 86_400_000
SPAN_MS = 58 * DAY_MS
Send = Callable[[Sequence[Out]], Awaitable[Sequence[Placed]]]


async def write_history(send: Send, loop: Loop, numbers: range, *, of: int, signal: float = 1.5) -> None:
    """Write the predictions `numbers` out of `of`, spread over 58 days, and their outcomes a day later.

    `loop`: one of `declarations.offers`. An offer is the likelier clicked on the cheaper it is (if `signal` is not 0).
    """
    schema = prediction_schema(loop.name, loop.features.names, categorical=loop.features.categorical)
    predictions, outcomes = AvroCodec(schema), data.codec(data.Outcome)
    prices, clicks = _drawn(numbers, signal)
    asked = [number * SPAN_MS // of for number in numbers]
    rows = zip(numbers, asked, prices, strict=True)
    placed = await send([_out(loop, "predictions", n, predictions.encode(_ask(loop, n, at, p))) for n, at, p in rows])
    done = zip(numbers, asked, placed, clicks, strict=True)
    await send([_out(loop, "outcomes", n, outcomes.encode(_outcome(n, at, where, c))) for n, at, where, c in done])
    mark = ((envelope.MARK, b"idle"), (envelope.TASK, f"predictor.score.{loop.name}-0".encode()))
    await send([Out(topics.predictions(loop.name), b"\x00mark:x", None, mark, 0)])


def _drawn(numbers: range, signal: float) -> tuple[list[float], list[float]]:
    """Price and click of each number, the same whichever numbers are written together."""
    draws = np.array([np.random.default_rng(number).normal(size=2) for number in numbers]).reshape(-1, 2)
    uniform = 1 / (1 + np.exp(-1.7 * draws[:, 1]))
    return draws[:, 0].tolist(), (uniform < 1 / (1 + np.exp(signal * draws[:, 0]))).astype(float).tolist()


def _out(loop: Loop, kind: str, number: int, value: bytes) -> Out:
    topic = topics.predictions(loop.name) if kind == "predictions" else topics.outcomes(loop.name)
    return Out(topic, f"k{number}".encode(), value, (), number % loop.partitions)


def _ask(loop: Loop, number: int, at_ms: int, price: float) -> dict[str, Any]:
    return {
        "key": f"k{number}",
        "at_ms": at_ms,
        "features": {"place": None if number % 7 == 0 else ("top", "side")[number % 2], "price": price},
        "ages_ms": {},
        "features_as_of_ms": at_ms,
        "features_digest": loop.features.digest,
        "probabilities": [],
        "arm": "none",
        "shadows": [],
        "origin": "stream",
        "declaration_version": loop.version,
        "by": [f"k{number}"],
    }


def _outcome(number: int, at_ms: int, placed: Placed, label: float) -> dict[str, Any]:
    return {
        "key": f"k{number}",
        "prediction_partition": placed.partition,
        "prediction_offset": placed.offset,
        "at_ms": at_ms,
        "settled_at_ms": at_ms + DAY_MS,
        "status": "labelled",
        "label": label,
        "revision": 0,
        "suspect": False,
    }
