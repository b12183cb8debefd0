"""Predictions for requests: whatever queued up during one turn of the event loop is scored together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trimtab.contracts import envelope, topics
from trimtab.loops.model import Loop
from trimtab.loops.vectors import VectorNames
from trimtab.predictor.core import Assemble, Deployed, Encoder, Request, Writer, overridden, score
from trimtab.runtime.records import Out

Value = dict[str, Any]
Answer = tuple[Value, bytes]
"""What is said of an ask, and the same as it is logged."""


@dataclass(frozen=True, slots=True)
class Backing:
    """What stands behind a loop's door. `progress_ms`: the event time that the online values have reached.

    `log` writes records and returns once they are acknowledged.
    """

    loop: Loop
    names: VectorNames
    assemble: Assemble
    deployed: Deployed
    progress_ms: Callable[[], int]
    writer: Writer
    log: Callable[[Sequence[Out]], Awaitable[None]]


class Door:
    """Scores requests of one loop and logs what it says before it says it.

    There is no timer: the first request of a turn of the event loop schedules one scoring after that turn, and takes
    along all that came meanwhile. One request alone waits for nothing.
    """

    def __init__(self, backing: Backing) -> None:
        self.backing = backing
        self._encoder = Encoder(backing.writer)
        self._waiting: list[tuple[Sequence[Request], asyncio.Future[list[Answer]]]] = []

    async def predict(self, requests: Sequence[Request]) -> list[Value]:
        """One prediction for each request, in their order, logged and acknowledged.

        Raises whatever `log` raises; then nothing was given out.
        """
        running = asyncio.get_running_loop()
        answer: asyncio.Future[list[Answer]] = running.create_future()
        if not self._waiting:
            running.call_soon(self._score_waiting)
        self._waiting.append((requests, answer))
        answers = await answer
        await self.backing.log([self._record(value, message) for value, message in answers])
        return [value for value, _ in answers]

    def _score_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        requests = [request for some, _ in waiting for request in some]
        try:
            answers = self._answers(requests)
        except Exception as error:  # noqa: BLE001 each waiting request gets the error; none is swallowed
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        start = 0
        for some, answer in waiting:
            if not answer.done():
                answer.set_result(answers[start : start + len(some)])
            start += len(some)

    def _answers(self, requests: Sequence[Request]) -> list[Answer]:
        backing = self.backing
        at_ms = np.array([request.at_ms for request in requests], dtype=np.int64)
        vectors = backing.assemble([request.ask for request in requests], at_ms)
        vectors = overridden(vectors, requests, backing.names)
        scored = score(backing.deployed(at_ms), at_ms, vectors)
        as_of = np.minimum(at_ms, max(backing.progress_ms(), 0)).tolist()
        asks = [request.ask for request in requests]
        values = backing.writer.values(asks, at_ms.tolist(), as_of, vectors, scored)
        messages = self._encoder.encode(asks, at_ms.tolist(), as_of, vectors, scored)
        return list(zip(values, messages, strict=True))

    def _record(self, value: Value, message: bytes) -> Out:
        loop, key, at_ms = self.backing.loop.name, value["key"], value["at_ms"]
        headers = envelope.headers(key, "prediction", "predictor.http", at_ms)
        return Out(topics.answered(loop), key.encode(), message, headers)
