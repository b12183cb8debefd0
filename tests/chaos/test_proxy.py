"""The network of the campaign does to a connection what it says, and loses nothing of it."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from proxy import END_TXN, INIT_PRODUCER_ID, PRODUCE, Proxy, proxy


@dataclass
class Echo:
    """A server that gives back what it gets, and remembers when each request came."""

    sock: socket.socket
    got: list[bytes] = field(default_factory=list)

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(4096):
                    self.got.append(data)
                    connection.sendall(data)
            except OSError:
                return

    def has(self, data: bytes) -> bool:
        until_s = time.monotonic() + 2
        while data not in b"".join(self.got) and time.monotonic() < until_s:
            time.sleep(0.01)
        return data in b"".join(self.got)


@pytest.fixture
def echo() -> Iterator[Echo]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        made = Echo(sock)
        thread = threading.Thread(target=made.serve, daemon=True)
        thread.start()
        yield made
        sock.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.fixture
def network(echo: Echo) -> Iterator[Proxy]:
    with proxy(echo.sock.getsockname()[1]) as made:
        yield made


def client(network: Proxy) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", network.port))
    made.settimeout(2)
    return made


def request(api: int, name: str = "trimtab-a") -> bytes:
    body = struct.pack(">hhih", api, 3, 1, len(name)) + name.encode()
    return struct.pack(">i", len(body)) + body


def asked(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return connection.recv(4096)


def test_requests_pass_and_may_be_slow(network: Proxy) -> None:
    with client(network) as connection:
        assert asked(connection, request(PRODUCE)) == request(PRODUCE)
        network.delay(0.1)
        began_s = time.monotonic()
        assert asked(connection, request(PRODUCE)) == request(PRODUCE)
        assert time.monotonic() - began_s >= 0.2


def test_cut_connections_are_reset(network: Proxy) -> None:
    with client(network) as connection:
        asked(connection, request(PRODUCE))
        network.cut()
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    with client(network) as connection:
        assert asked(connection, request(PRODUCE))


def test_a_black_hole_gives_back_late_what_fell_into_it(network: Proxy, echo: Echo) -> None:
    with client(network) as patient, client(network) as impatient:
        asked(patient, request(PRODUCE, "patient"))
        asked(impatient, request(PRODUCE, "impatient"))
        network.lose("up", "down")
        patient.sendall(request(END_TXN, "patient"))
        impatient.sendall(request(END_TXN, "impatient"))
        impatient.close()
        time.sleep(0.2)
        assert request(END_TXN, "patient") not in b"".join(echo.got)
        network.lose()
        assert patient.recv(4096) == request(END_TXN, "patient")
        assert echo.has(request(END_TXN, "impatient"))


def test_lost_answers_let_requests_through(network: Proxy, echo: Echo) -> None:
    with client(network) as connection:
        asked(connection, request(PRODUCE))
        network.lose("down")
        connection.sendall(request(END_TXN))
        assert echo.has(request(END_TXN))
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        network.lose()
        connection.settimeout(2)
        assert connection.recv(4096) == request(END_TXN)


def test_one_request_is_kept_back_until_its_client_has_another_epoch(network: Proxy, echo: Echo) -> None:
    kept = network.keep(END_TXN, "trimtab-a")
    with client(network) as other, client(network) as first:
        assert asked(other, request(END_TXN, "trimtab-b")) == request(END_TXN, "trimtab-b")
        assert asked(first, request(PRODUCE)) == request(PRODUCE)
        first.sendall(request(END_TXN))
        assert kept.caught.wait(2)
    with client(network) as second:
        assert not kept.outrun.is_set()
        assert asked(second, request(INIT_PRODUCER_ID)) == request(INIT_PRODUCER_ID)
        assert kept.outrun.wait(2)
        assert asked(second, request(END_TXN)) == request(END_TXN)
        seen = b"".join(echo.got).count(request(END_TXN))
        network.release(kept)
        assert seen == 1
        until_s = time.monotonic() + 2
        while b"".join(echo.got).count(request(END_TXN)) < 2 and time.monotonic() < until_s:
            time.sleep(0.01)
        assert b"".join(echo.got).count(request(END_TXN)) == 2
