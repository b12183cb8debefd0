"""The fitting process: an order a line on standard input, an answer a line on standard output."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from trimtab.runtime.kafka import Connection, KafkaBus
from trimtab.store.blobs import BlobStore
from trimtab.store.errors import StoreError
from trimtab.trainer.adapters.work import Workshop, fulfil, order_from
from trimtab.trainer.errors import TrainingError

NICENESS = 5


async def answer(line: bytes, place: dict[str, Any]) -> dict[str, Any]:
    """What `fulfil` gives, or {"failed": reason, "error": what was wrong}."""
    async with KafkaBus(Connection(**place["kafka"])) as bus:
        shop = Workshop(
            bus=bus,
            blobs=BlobStore(place["store_url"]),
            folder=Path(place["folder"]),
            cluster_id=await bus.catalog.cluster_id(),
            code_version=place["code_version"],
            lock_digest=place["lock_digest"],
        )
        try:
            return await fulfil(shop, order_from(line))
        except TrainingError as error:
            return {"failed": error.reason, "error": str(error)}
        except StoreError as error:
            return {"failed": "store", "error": str(error)}


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
