"""The trainer's end of the fitting process: kept warm, killed with the request that it works on."""

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from trimtab.trainer.adapters.orders import Order
from trimtab.trainer.errors import ChildEndedError

CHILD = "trimtab.trainer.adapters.child"
LARGEST_ANSWER = 64 << 20


class Fitting:
    """One process that fits, one order at a time.

    It imports everything before the first order comes. A cancelled order kills it; the next order starts another.
    `place`: what the child needs to find Kafka and the store (see `child.answer`). `child`: its module.
    """

    def __init__(self, place: Mapping[str, Any], environment: Mapping[str, str], child: str = CHILD) -> None:
        self._place = json.dumps(place).encode() + b"\n"
        self._environment = dict(environment)
        self._child = child
        self._process: Process | None = None
        self._busy = asyncio.Lock()

    async def warm(self) -> None:
        """Start the process, so that the first order does not wait for imports."""
        async with self._busy:
            await self._alive()

    async def fit(self, order: Order) -> Mapping[str, Any]:
        """The child's answer, and `wall_s`. Raises ChildEndedError; cancelled, it kills the child."""
        async with self._busy:
            began_s = time.monotonic()
            process = await self._alive()
            try:
                found = await self._ask(process, order)
            except BaseException:
                await self._kill()
                raise
            return {**found, "wall_s": time.monotonic() - began_s}

    async def close(self) -> None:
        """End the process."""
        await self._kill()

    async def _alive(self) -> Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._child, stdin=PIPE, stdout=PIPE, env=self._environment, limit=LARGEST_ANSWER
        )
        self._process = process
        try:
            _write(process, self._place)
            if await _read(process) != b"ready\n":
                raise ChildEndedError(await process.wait(), "it did not become ready; its log says why")
        except BaseException:
            await self._kill()
            raise
        return process

    async def _ask(self, process: Process, order: Order) -> Mapping[str, Any]:
        _write(process, json.dumps(asdict(order)).encode() + b"\n")
        line = await _read(process)
        if not line:
            raise ChildEndedError(await process.wait(), "its log says why")
        found: Mapping[str, Any] = json.loads(line)
        return found

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()


def _write(process: Process, data: bytes) -> None:
    if process.stdin is not None:
        process.stdin.write(data)


async def _read(process: Process) -> bytes:
    return b"" if process.stdout is None else await process.stdout.readline()
