"""A network between clients and a broker that can be slow, cut, a black hole, or deaf in one direction.

What a network loses, TCP sends again: so nothing is dropped from a connection, it only comes late, also when the client
has given up and closed meanwhile. Kafka's requests are told apart by their headers (https://kafka.apache.org/protocol),
so that a single one can be kept back.
"""

import asyncio
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import uvloop

PRODUCE, INIT_PRODUCER_ID, END_TXN = 0, 22, 26
Direction = Literal["up", "down"]
_header = struct.Struct(">ihhih")


@dataclass(frozen=True, slots=True)
class Request:
    """What a request's header says."""

    api: int
    client: str


@dataclass(eq=False, slots=True)
class Kept:
    """A request that is to be kept back: the first of this kind from a client whose name begins so.

    `caught`: it has come, and its connection stands still since. `outrun`: by another connection its client has sent it
    again, or asked for a new epoch.
    """

    api: int
    client: str
    caught: threading.Event = field(default_factory=threading.Event)
    outrun: threading.Event = field(default_factory=threading.Event)
    pipe: "_Pipe | None" = None

    def see(self, request: Request, pipe: "_Pipe") -> None:
        """Look whether it is the one, or what its client does without an answer to it."""
        if self.pipe is None:
            if request.api == self.api and request.client.startswith(self.client):
                self.pipe, self.client, pipe.stands = pipe, request.client, True
                self.caught.set()
        elif pipe is not self.pipe and request.client == self.client and request.api in (self.api, INIT_PRODUCER_ID):
            self.outrun.set()


class Proxy:
    """Listens on `port` for as long as `proxy` is open. Its methods may be called from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target_port: int) -> None:
        self.port = 0
        self.latency_s = 0.0
        self.lost: frozenset[Direction] = frozenset()
        self.kept: list[Kept] = []
        self._loop, self._target_port = loop, target_port
        self._pipes: set[_Pipe] = set()

    def delay(self, latency_s: float) -> None:
        """Let everything take so much longer, in each direction."""
        self._call(lambda: setattr(self, "latency_s", latency_s))

    def lose(self, *directions: Direction) -> None:
        """Let nothing more through in these directions, and everything in the others."""
        self._call(lambda: self._lose(frozenset(directions)))

    def cut(self) -> None:
        """Reset all connections."""
        self._call(self._cut)

    def keep(self, api: int, client: str) -> Kept:
        """Keep the next such request back, until `release`."""
        kept = Kept(api, client)
        self._call(lambda: self.kept.append(kept))
        return kept

    def release(self, kept: Kept) -> None:
        """Let it through, with all that came behind it."""
        self._call(lambda: self._release(kept))

    async def listen(self, stop: asyncio.Event, ready: Callable[[], object]) -> None:
        """Until told to stop."""
        server = await self._loop.create_server(lambda: _Client(self), "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        ready()
        await stop.wait()
        server.close()
        self._cut()

    def connect(self, client: "_Client") -> None:
        """Connect a client onwards."""
        task = self._loop.create_task(self._onwards(client))
        client.connecting = task

    async def _onwards(self, client: "_Client") -> None:
        try:
            await self._loop.create_connection(lambda: _Server(self, client), "127.0.0.1", self._target_port)
        except OSError:
            client.up.abort()

    def pipe(self, direction: Direction) -> "_Pipe":
        """A direction of a new connection."""
        made = _Pipe(self, direction)
        self._pipes.add(made)
        return made

    def ended(self, pipe: "_Pipe") -> None:
        """Forget a direction."""
        self._pipes.discard(pipe)

    def _cut(self) -> None:
        for pipe in list(self._pipes):
            pipe.abort()

    def _lose(self, directions: frozenset[Direction]) -> None:
        self.lost = directions
        for pipe in list(self._pipes):
            pipe.pump()

    def _release(self, kept: Kept) -> None:
        self.kept.remove(kept)
        if kept.pipe is not None:
            kept.pipe.stands = False
            kept.pipe.pump()

    def _call(self, what: Callable[[], Any]) -> None:
        done = threading.Event()

        def it() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(it)
        done.wait()


class _Pipe:
    """One direction of one connection. What cannot go on waits in order; None is the end of the stream."""

    def __init__(self, proxy: Proxy, direction: Direction) -> None:
        self._proxy, self._direction = proxy, direction
        self._waiting: deque[tuple[float, bytes | None]] = deque()
        self._loop = asyncio.get_running_loop()
        self.to: asyncio.Transport | None = None
        self.back: asyncio.Transport | None = None
        self.stands = False

    def feed(self, data: bytes | None) -> None:
        self._waiting.append((self._loop.time() + self._proxy.latency_s, data))
        self.pump()

    def pump(self) -> None:
        """Pass on what may go."""
        while self._waiting and self.to is not None and not self.stands and self._direction not in self._proxy.lost:
            due_s, data = self._waiting[0]
            if (wait_s := due_s - self._loop.time()) > 0:
                self._loop.call_later(wait_s, self.pump)
                return
            self._waiting.popleft()
            if data is None:
                self.to.close()
                self._proxy.ended(self)
            elif not self.to.is_closing():  # whom it is for may have gone meanwhile
                self.to.write(data)

    def abort(self) -> None:
        """Reset both ends."""
        for end in (self.to, self.back):
            if end is not None:
                end.abort()
        self._waiting.clear()
        self._proxy.ended(self)


class _Client(asyncio.Protocol):
    """A connection from a client, taken apart into requests."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy, self._buffer = proxy, bytearray()
        self.up, self.down = proxy.pipe("up"), proxy.pipe("down")
        self.connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.up.back = self.down.to = transport  # type: ignore[assignment]  # uvloop's is no subclass of asyncio's
        self._proxy.connect(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 4 and len(self._buffer) >= (end := 4 + int.from_bytes(self._buffer[:4], "big")):
            frame = bytes(self._buffer[:end])
            del self._buffer[:end]
            for kept in self._proxy.kept:
                kept.see(request_of(frame), self.up)
            self.up.feed(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self.up.feed(None)
        self._proxy.ended(self.down)


class _Server(asyncio.Protocol):
    """The same connection's other half."""

    def __init__(self, proxy: Proxy, client: _Client) -> None:
        self._proxy, self._client = proxy, client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client.up.to = self._client.down.back = transport  # type: ignore[assignment]  # as above
        self._client.up.pump()

    def data_received(self, data: bytes) -> None:
        self._client.down.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.down.feed(None)
        self._proxy.ended(self._client.up)


def request_of(frame: bytes) -> Request:
    """What the header says.

    >>> request_of(struct.pack(">ihhih", 13, END_TXN, 3, 7, 3) + b"me!")
    Request(api=26, client='me!')
    """
    _, api, _, _, length = _header.unpack_from(frame)
    return Request(api, frame[_header.size : _header.size + max(0, length)].decode())


@contextmanager
def proxy(target_port: int, port: int = 0) -> Iterator[Proxy]:
    """A proxy to a port of this machine for a `with`, in a thread of its own. `port`: where it listens; 0: anywhere."""
    loop = uvloop.new_event_loop()
    made, stop, ready = Proxy(loop, target_port), asyncio.Event(), threading.Event()
    made.port = port
    thread = threading.Thread(target=loop.run_until_complete, args=(made.listen(stop, ready.set),), name="proxy")
    thread.start()
    try:
        ready.wait()
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
