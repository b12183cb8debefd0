"""Where answers given over HTTP are logged: in Kafka, and on this disk for as long as Kafka is away."""

import asyncio
import fcntl
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self, TypeVar

import structlog
from aiokafka.errors import KafkaError

from trimtab.contracts import telemetry
from trimtab.predictor.adapters.spool import Spool, framed
from trimtab.predictor.errors import NotLoggedError, SpoolHeldError
from trimtab.runtime.edge import Edge
from trimtab.runtime.errors import EdgeAwayError
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Measure

log = structlog.get_logger(__name__)

AWAY_S = 1.0
"""Kafka is held to be away when it has not acknowledged for so long: who asks is not kept waiting longer."""
AGAIN_S = 0.5
MOST_AT_ONCE = 500
T = TypeVar("T")


class Answers:
    """One loop's. While anything waits on disk, whatever comes waits behind it, so that order is kept.

    A record of which it is not known whether Kafka has it is sent again: the stage that reads them takes the first of
    a key. `most_bytes`: on disk; 0: what Kafka does not take is refused.
    """

    def __init__(self, loop: str, *, edge: Edge, spool: Spool, most_bytes: int, thread: Executor) -> None:
        self._loop, self._edge, self._thread = loop, edge, thread
        self._spool, self._most_bytes = spool, most_bytes
        self._away, self._through, self._logged = True, 0, 0

    @property
    def waiting_bytes(self) -> int:
        """On disk."""
        return self._spool.size

    async def write(self, outs: Sequence[Out]) -> None:
        """Return once Kafka or, while it is away, the disk has the records. Raises NotLoggedError."""
        reason = "earlier ones wait on disk"
        if not self._spool.size:
            try:
                async with asyncio.timeout(AWAY_S if self._most_bytes else None):
                    await self._edge.send(outs)
            except (EdgeAwayError, TimeoutError) as error:
                reason = str(error) or f"no acknowledgement within {AWAY_S:g} s"
                if not self._most_bytes:
                    raise NotLoggedError(reason) from error
            except KafkaError as error:
                raise NotLoggedError(str(error)) from error
            else:
                return
        data = framed(outs)
        await self._blocking(lambda: self._keep(data, reason))

    async def drain(self) -> None:
        """Bring some of what waits to Kafka: one record until it answers, then many at a time.

        Raises SpoolDamagedError: the next start cuts off what does not verify.
        """
        most = 1 if self._away else MOST_AT_ONCE
        outs, through = await self._blocking(lambda: self._spool.read(self._through, most))
        try:
            await self._edge.send(outs)
        except (EdgeAwayError, KafkaError) as error:
            log.debug("Kafka is still away", loop=self._loop, reason=str(error))
            self._away = True
            await asyncio.sleep(AGAIN_S)
            return
        self._away, self._through, self._logged = False, through, self._logged + len(outs)
        if await self._blocking(lambda: self._spool.clear(through)):
            log.info("answers that waited on disk are logged", loop=self._loop, answers=self._logged)
            self._away, self._through, self._logged = True, 0, 0

    def _keep(self, data: bytes, reason: str) -> None:
        if self._spool.size + len(data) > self._most_bytes:
            raise NotLoggedError(f"{reason}; TRIMTAB_SPOOL__MAX_MB of them wait on disk already")
        if not self._spool.size:
            log.warning("Kafka is away: answers wait on disk", loop=self._loop, reason=reason)
        try:
            self._spool.append(data)
        except OSError as error:
            raise NotLoggedError(f"{reason}; nor does the disk take it: {error}") from error

    async def _blocking(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


class Spools:
    """The answers of all loops, in a folder that one process at a time may use. An asynchronous context manager."""

    def __init__(self, folder: Path, edge: Edge, most_bytes: int) -> None:
        self._folder, self._edge, self._most_bytes = folder, edge, most_bytes
        self._thread = ThreadPoolExecutor(1, "spool")
        self._open: dict[str, tuple[Spool, Answers]] = {}
        self._files = ExitStack()

    async def __aenter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = self._files.enter_context((self._folder / "lock").open("ab"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._files.close()
            raise SpoolHeldError(self._folder) from error
        return self

    async def __aexit__(self, *_: object) -> None:
        self._thread.shutdown()
        self._files.close()

    def open(self, loop: str, topic_id: str) -> Answers:
        """Take up a loop's answers; what waits of a loop of this name that was deleted meanwhile is dropped."""
        if loop not in self._open:
            name = f"{loop}.{topic_id}"
            for other in self._folder.glob(f"{loop}.*"):
                if other.name != name:
                    self._drop(loop, self._spool(other))
            spool = self._spool(self._folder / name)
            if spool.cut:
                log.error("the end of a spool does not verify and is cut off", loop=loop, cut_bytes=spool.cut)
            answers = Answers(loop, edge=self._edge, spool=spool, most_bytes=self._most_bytes, thread=self._thread)
            self._open[loop] = spool, answers
        return self.of(loop)

    def of(self, loop: str) -> Answers:
        """A loop's answers that were taken up."""
        return self._open[loop][1]

    def end(self, loop: str) -> None:
        """A loop was deleted, its topics too: what waits of it has no place any more."""
        if loop in self._open:
            self._drop(loop, self._open.pop(loop)[0])

    async def drain(self) -> None:
        """Bring to Kafka what waits, without end."""
        while True:
            waiting = [answers for _, answers in self._open.values() if answers.waiting_bytes]
            await asyncio.gather(*(answers.drain() for answers in waiting))
            if not waiting:
                await asyncio.sleep(AGAIN_S)

    def measures(self) -> Sequence[Measure]:
        """What waits of each loop."""
        return [
            Measure(telemetry.PREDICTOR_SPOOLED, answers.waiting_bytes, {"loop": loop})
            for loop, (_, answers) in self._open.items()
        ]

    def _spool(self, path: Path) -> Spool:
        return self._files.enter_context(closing(Spool(path)))

    def _drop(self, loop: str, spool: Spool) -> None:
        if spool.size:
            log.error("answers that waited on disk are dropped: their loop was deleted", loop=loop, bytes=spool.size)
        self._thread.submit(spool.drop)
