"""Stream processors: a function for each event, run by Faust, acknowledged when its work is in the log."""

import asyncio
import logging
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from trimtab.contracts.errors import UnknownFingerprintError
from trimtab.faust.app import create_app
from trimtab.faust.derived import Came, Derivation, Fields, Goes, Made
from trimtab.faust.errors import BadEventError
from trimtab.faust.schemas import published
from trimtab.loops import declaration
from trimtab.loops.model import Loop
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.settings import RuntimeSettings

Function = Callable[[Fields], Awaitable[Made]]
FAILED = 70
"""Exit code of a process that met what it cannot handle (sysexits.h: internal software error)."""
UNDER_WAY = 500
"""Events whose records are being written while the next ones are worked on."""


class Processor:
    """A person's functions over a loop's events, as a Faust app (`app`) in a consumer group of its own.

        flights = Processor("inbound", Path("examples/flights"))

        @flights.derive("inbound", of="arrival")
        async def inbound(arrival):
            if arrival["tailnum"] and arrival["arr_delay_min"] > 15:
                return {"tailnum": arrival["tailnum"], "landed_at": arrival["arrived_at"]}

        if __name__ == "__main__":
            flights.main()

    Each event is given to the function at least once, in the order of its partition. What the function makes of it
    enters the loop through its source topic under an id that follows from the event's, so that ingest drops the copies
    that follow a crash. Nothing is acknowledged before it is written. A `BadEventError` puts the event into quarantine;
    any other exception ends the process, and a restart begins with that event again. A function that keeps state
    keeps it for itself: after a crash some events come twice.

    Good for about 2,000 events a second and process. `settings`: where Kafka is, and this process's slot (`replica`).
    """

    def __init__(self, name: str, folder: Path, settings: RuntimeSettings | None = None) -> None:
        chosen = settings or RuntimeSettings()
        self.name = name
        self.loop: Loop = declaration.load(folder)
        self._connection = chosen.kafka.connection()
        group = f"processor.{name}.{self.loop.name}"
        self._instance = f"{group}-{chosen.replica}"
        self.app = create_app(group, self._connection, chosen.data_dir.absolute(), chosen.replica)

    def derive(self, event: str, *, of: str) -> Callable[[Function], Function]:
        """Run the function for each event `of` the loop; it makes events of the kind `event`.

        It returns None, the fields of one event or a list of several; the id field is filled in. Raises
        UnknownEventError, EventWithoutIdError.
        """
        derivation = Derivation(self.name, self.loop, event, of)

        def register(function: Function) -> Function:
            work = Work(derivation, function, self._published)
            source = self._topic(derivation.topic)

            async def agent(stream: Any) -> None:
                await _drive(stream.noack(), work, self._send)

            agent.__name__ = function.__name__
            self.app.agent(source, name=derivation.name)(agent)
            return function

        return register

    def main(self) -> None:
        """Run a worker until SIGTERM or SIGINT. Other commands of Faust: `faust -A module`."""
        logging.getLogger("aiokafka").setLevel(logging.WARNING)  # Faust's own switch leaves it at DEBUG
        if len(sys.argv) == 1:
            sys.argv += ["worker", "--without-web", "--loglevel=warn"]
        self.app.main()

    def _topic(self, name: str) -> Any:
        return self.app.topic(
            name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            partitions=self.loop.partitions,
            allow_empty=True,
        )

    async def _send(self, goes: Goes) -> "asyncio.Future[Any]":
        topic = self._topic(goes.topic)
        sent: asyncio.Future[Any] = await topic.send(key=goes.key, value=goes.value, headers=list(goes.headers))
        return sent

    async def _published(self) -> Sequence[Any]:
        return await published(self._connection, self._instance)


class Work:
    """What happens to one event, apart from Faust and Kafka."""

    def __init__(
        self, derivation: Derivation, function: Function, schemas: Callable[[], Awaitable[Sequence[Any]]]
    ) -> None:
        self._derivation, self._function, self._schemas = derivation, function, schemas

    async def __call__(self, came: Came, wall_ms: int) -> Sequence[Goes]:
        """The records that an event leads to. Raises whatever the function raises but BadEventError."""
        fields = await self._fields(came)
        try:
            made = await self._function(fields)
        except BadEventError as error:
            return [self._derivation.refused(came, error.reason, wall_ms)]
        return self._derivation.records(came, made)

    async def _fields(self, came: Came) -> Fields:
        try:
            return self._derivation.fields(came)
        except UnknownFingerprintError:
            for schema in await self._schemas():
                self._derivation.learn(schema)
            return self._derivation.fields(came)


async def _drive(stream: Any, work: Work, send: Callable[[Goes], "Awaitable[asyncio.Future[Any]]"]) -> None:
    """Work through a stream; acknowledge each event, in order, when its records are in the log."""
    under_way: asyncio.Queue[tuple[Any, Sequence[asyncio.Future[Any]]]] = asyncio.Queue(UNDER_WAY)
    acknowledging = asyncio.create_task(_acknowledge(stream, under_way))
    try:
        async for event in stream.events():
            if event.value is None:  # a mark of the runtime's, no event
                await under_way.put((event, ()))
                continue
            message = event.message
            came = Came(message.topic, message.partition, message.offset, tuple(message.headers), event.value)
            goes = await work(came, wall_ms())
            await under_way.put((event, [await send(one) for one in goes]))
    except Exception as error:  # noqa: BLE001  # whatever it is, the process ends
        end_process(error)
    finally:
        acknowledging.cancel()


async def _acknowledge(stream: Any, under_way: "asyncio.Queue[tuple[Any, Sequence[asyncio.Future[Any]]]]") -> None:
    try:
        while True:
            event, sent = await under_way.get()
            for one in sent:
                await one
            await stream.ack(event)
    except Exception as error:  # noqa: BLE001  # whatever it is, the process ends
        end_process(error)


def end_process(error: BaseException) -> None:
    """End at once, so that nothing is acknowledged any more. (Faust itself acknowledges what an agent failed on.)"""
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(FAILED)
