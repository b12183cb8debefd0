"""The fitting process: an order a line on standard input, an answer a line on standard output."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog
from aiokafka.errors import KafkaError, KafkaTimeoutError

from trimtab.ml.datasets import Dataset
from trimtab.runtime.errors import BusSilentError
from trimtab.runtime.kafka import Connection, KafkaBus
from trimtab.store.blobs import BlobStore
from trimtab.store.errors import StoreError
from trimtab.trainer.adapters.laps import Laps
from trimtab.trainer.adapters.orders import Order
from trimtab.trainer.adapters.work import Workshop, fulfil, order_from
from trimtab.trainer.core import Begun, Job, Trained, train, unheard
from trimtab.trainer.errors import TrainingError

log = structlog.get_logger(__name__)

AGAIN_S = 1.0
NICENESS = 1
"""A fit gives way to serving, but does not starve beside it: at 5 it got an eighth of a busy core."""


async def answer(line: bytes, place: dict[str, Any]) -> dict[str, Any]:
    """What `answered` gives for an order and a place as they come in. While Kafka is away it begins again and again."""
    while True:
        try:
            return await _answer(line, place)
        except (KafkaError, BusSilentError) as error:
            if not (isinstance(error, BusSilentError | KafkaTimeoutError) or error.retriable):
                raise
            log.warning("a fit waits for Kafka", reason=str(error))
            await asyncio.sleep(AGAIN_S)


async def _answer(line: bytes, place: dict[str, Any]) -> dict[str, Any]:
    async with KafkaBus(Connection(**place["kafka"])) as bus:
        shop = Workshop(
            bus=bus,
            blobs=BlobStore(place["store_url"]),
            folder=Path(place["folder"]),
            cluster_id=await bus.catalog.cluster_id(),
            code_version=place["code_version"],
            lock_digest=place["lock_digest"],
            train=train if os.cpu_count() == 1 else train_ahead,
        )
        return await answered(shop, order_from(line), time.time_ns)


def train_ahead(job: Job, rows: Dataset, begun: Begun = unheard) -> Trained:
    """As `train`, but the refit does not wait for the gate: most candidates pass, and a second core is there."""
    beside = ThreadPoolExecutor(1, "refit")
    try:
        return train(job, rows, begun, beside)
    finally:
        beside.shutdown(wait=False)  # a failed candidate's answer does not wait for a refit that nobody wants


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


def main() -> None:
    """Say that everything is imported, then answer orders. Whatever is unexpected ends the process with its trace."""
    os.nice(NICENESS)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints goes to the log, not among the answers
    place = json.loads(sys.stdin.buffer.readline())
    answers.write(b"ready\n")
    for line in sys.stdin.buffer:
        answers.write(json.dumps(asyncio.run(answer(line, place))).encode() + b"\n")


if __name__ == "__main__":
    main()
