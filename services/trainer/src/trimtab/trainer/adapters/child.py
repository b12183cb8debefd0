"""The fitting process: an order a line on standard input, an answer a line on standard output.

Between orders it reads ahead in the logs of the loops whose orders it had: the next finds most of its rows on the disk.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import structlog
from aiokafka.errors import KafkaError, KafkaTimeoutError

from trimtab.runtime.errors import BusSilentError
from trimtab.runtime.kafka import Connection, KafkaBus
from trimtab.store.blobs import BlobStore
from trimtab.store.errors import StoreError
from trimtab.trainer.adapters.laps import Laps
from trimtab.trainer.adapters.orders import Order
from trimtab.trainer.adapters.work import Workshop, fulfil, loop_of, order_from, read_ahead
from trimtab.trainer.core import train
from trimtab.trainer.errors import TrainingError

log = structlog.get_logger(__name__)

AGAIN_S = 1.0
AHEAD_S = 5.0
"""How often the logs are looked at between orders."""
NICENESS = 1
"""A fit gives way to serving, but does not starve beside it: at 5 it got an eighth of a busy core."""


async def answer(order: Order, place: dict[str, Any]) -> dict[str, Any]:
    """What `answered` gives for an order, and a place as it comes in. While Kafka is away it begins again and again."""
    while True:
        try:
            return await _answer(order, place)
        except (KafkaError, BusSilentError) as error:
            if not (isinstance(error, BusSilentError | KafkaTimeoutError) or error.retriable):
                raise
            log.warning("a fit waits for Kafka", reason=str(error))
            await asyncio.sleep(AGAIN_S)


async def _answer(order: Order, place: dict[str, Any]) -> dict[str, Any]:
    async with KafkaBus(Connection(**place["kafka"])) as bus:
        with another_core() as beside:
            shop = Workshop(
                bus=bus,
                blobs=BlobStore(place["store_url"]),
                folder=Path(place["folder"]),
                cluster_id=await bus.catalog.cluster_id(),
                code_version=place["code_version"],
                lock_digest=place["lock_digest"],
                train=partial(train, beside=beside),
                beside=beside,
            )
            return await answered(shop, order, time.time_ns)


@contextmanager
def another_core() -> Iterator[Executor | None]:
    """Threads for what need not wait until it is its turn: most candidates pass, so refit and rows will be wanted.

    Nobody waits for them at the end: a failed candidate's answer is there before a refit that nobody wants.
    """
    if os.cpu_count() == 1:
        yield None
        return
    beside = ThreadPoolExecutor(2, "beside")
    try:
        yield beside
    finally:
        beside.shutdown(wait=False, cancel_futures=True)


async def answered(shop: Workshop, order: Order, now_ns: Callable[[], int]) -> dict[str, Any]:
    """What `fulfil` gives, or {"failed": reason, "error": what was wrong}; and the `laps` that it took."""
    laps = Laps(now_ns)
    try:
        found = await fulfil(shop, order, laps)
    except TrainingError as error:
        found = {"failed": error.reason, "error": str(error)}
    except StoreError as error:
        found = {"failed": "store", "error": str(error)}
    return {**found, "laps": laps.ended()}


async def ahead(known: Mapping[str, Mapping[str, Any]], place: Mapping[str, Any]) -> None:
    """Read ahead for these loops, as they were declared. Whatever hinders it is told, and ends nothing: an order may be
    on its way, and fails by itself if it has to.
    """
    if not known:
        return
    try:
        async with KafkaBus(Connection(**place["kafka"])) as bus:
            for declared in known.values():
                await read_ahead(bus, Path(place["folder"]), loop_of(declared))
    except Exception as error:  # noqa: BLE001 an order that needs the same meets the same, and says so
        log.warning("what is new in the log was not read ahead", reason=f"{type(error).__name__}: {error}")


async def next_line(lines: BinaryIO, idle: Callable[[], Awaitable[None]], every_s: float = AHEAD_S) -> bytes:
    """The next line; until it comes, `idle` again and again, given up as soon as it is there."""
    reading = asyncio.create_task(asyncio.to_thread(lines.readline))
    while not (await asyncio.wait([reading], timeout=every_s))[0]:
        working = asyncio.ensure_future(idle())
        await asyncio.wait([reading, working], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
        with suppress(asyncio.CancelledError):
            await working
    return reading.result()


async def work(lines: BinaryIO, answers: BinaryIO, place: dict[str, Any]) -> None:
    """Answer orders until there are no more."""
    known: dict[str, Mapping[str, Any]] = {}
    while line := await next_line(lines, lambda: ahead(known, place)):
        order = order_from(line)
        known[order.declared["loop"]] = order.declared
        answers.write(json.dumps(await answer(order, place)).encode() + b"\n")


def main() -> None:
    """Say that everything is imported, then answer orders. Whatever is unexpected ends the process with its trace."""
    os.nice(NICENESS)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints goes to the log, not among the answers
    place = json.loads(sys.stdin.buffer.readline())
    answers.write(b"ready\n")
    asyncio.run(work(sys.stdin.buffer, answers, place))


if __name__ == "__main__":
    main()
