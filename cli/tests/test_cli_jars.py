"""The jar cache: what it gives is what the lock says, whatever the disk or the network did."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest
from trimtab.cli.errors import JarDigestError, JarsUnavailableError
from trimtab.cli.jars.cache import JarCache
from trimtab.cli.jars.lock import Jar, Lock, load, parse

CONTENT = {"a-1.jar": b"A" * 1000, "b-2-slim.jar": b"B" * 10}


def lock() -> Lock:
    def sha(name: str) -> str:
        return hashlib.sha256(CONTENT[name]).hexdigest()

    return Lock(
        "set", "0123456789abcdef", (Jar("g", "a", "1", sha("a-1.jar")), Jar("g", "b", "2", sha("b-2-slim.jar"), "slim"))
    )


class Server:
    """Downloads from memory; `served` is what the network would give."""

    def __init__(self) -> None:
        self.served = dict(CONTENT)
        self.fetched: list[str] = []

    def open(self, scratch: Path, on_bytes: Callable[[int], None]) -> "Server":
        self._scratch, self._on_bytes = scratch, on_bytes
        return self

    def fetch(self, jar: Jar) -> Path:
        if jar.file not in self.served:
            raise OSError("no route to host")
        self.fetched.append(jar.file)
        self._scratch.mkdir(parents=True, exist_ok=True)
        path = self._scratch / jar.file
        path.write_bytes(self.served[jar.file])
        self._on_bytes(len(self.served[jar.file]))
        return path


class Watched:
    def __init__(self) -> None:
        self.count = 0
        self.jars = 0

    def bytes(self, count: int) -> None:
        self.count += count

    def jar(self) -> None:
        self.jars += 1

    @contextmanager
    def watch(self, _name: str, _jars: int) -> Iterator["Watched"]:
        yield self


def cache(folder: Path, server: Server) -> JarCache:
    return JarCache(folder, open_downloader=server.open, watch=Watched().watch)


def test_a_full_cache_needs_no_network(tmp_path: Path) -> None:
    server = Server()
    paths = cache(tmp_path, server).classpath(lock())
    assert [path.read_bytes() for path in paths] == list(CONTENT.values())
    server.served.clear()
    assert cache(tmp_path, server).classpath(lock()) == paths
    assert sorted(server.fetched) == sorted(CONTENT)


@pytest.mark.parametrize("damage", [b"", b"A" * 999, b"X" * 1000, None])
def test_a_broken_or_missing_file_is_fetched_again_and_only_that(tmp_path: Path, damage: bytes | None) -> None:
    server = Server()
    [first, _] = cache(tmp_path, server).classpath(lock())
    first.unlink() if damage is None else first.write_bytes(damage)
    server.fetched.clear()
    assert cache(tmp_path, server).classpath(lock())[0].read_bytes() == CONTENT["a-1.jar"]
    assert server.fetched == ["a-1.jar"]


def test_wrong_bytes_from_the_network_never_reach_the_classpath(tmp_path: Path) -> None:
    server = Server()
    server.served["a-1.jar"] = b"evil"
    with pytest.raises(JarDigestError, match=r"a-1\.jar was downloaded with SHA-256"):
        cache(tmp_path, server).classpath(lock())
    assert not list(tmp_path.rglob("a-1.jar*"))
    server.served["a-1.jar"] = CONTENT["a-1.jar"]
    cache(tmp_path, server).classpath(lock())


def test_an_interrupted_download_is_completed(tmp_path: Path) -> None:
    server = Server()
    del server.served["b-2-slim.jar"]
    with pytest.raises(JarsUnavailableError, match=re.escape("b-2-slim.jar: no route to host")):
        cache(tmp_path, server).classpath(lock())
    (tmp_path / "set.part").mkdir()
    (tmp_path / "set.part" / "b-2-slim.jar").write_bytes(b"half")
    server.served = dict(CONTENT)
    server.fetched.clear()
    cache(tmp_path, server).classpath(lock())
    assert server.fetched == ["b-2-slim.jar"]
    assert not (tmp_path / "set.part").exists()


def fill(folder: str, fetched: str) -> None:
    server = Server()
    cache(Path(folder), server).classpath(lock())
    with Path(fetched).open("a") as file:
        file.write("".join(f"{name}\n" for name in server.fetched))


def test_processes_that_start_together_download_once(tmp_path: Path) -> None:
    fetched = tmp_path / "fetched"
    context = get_context("fork")
    starters = [context.Process(target=fill, args=(str(tmp_path / "cache"), str(fetched))) for _ in range(4)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join(30)
    assert [starter.exitcode for starter in starters] == [0, 0, 0, 0]
    assert sorted(fetched.read_text().split()) == sorted(CONTENT)


def test_a_lock_without_a_digest_is_refused() -> None:
    with pytest.raises(KeyError, match="sha256"):
        parse("x", '[[dependencies]]\ngroupId = "g"\nartifactId = "a"\nversion = "1"\n')


@pytest.mark.parametrize(("name", "count"), [("kafka", 46), ("zipkin", 1)])
def test_the_shipped_locks_pin_every_jar_by_digest(name: str, count: int) -> None:
    jars = load(name).jars
    assert len(jars) == count
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert len({jar.file for jar in jars}) == count


def test_kafkas_clients_are_of_the_same_version_as_the_broker() -> None:
    versions = {jar.artifact: jar.version for jar in load("kafka").jars if jar.group == "org.apache.kafka"}
    assert set(versions.values()) == {versions["kafka_2.13"]}
