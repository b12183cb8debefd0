"""A PostgreSQL server of one's own, where the machine has one installed: initdb, start, stop, all in a folder."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

USER = "postgres"


def programs() -> Path | None:
    """The folder with PostgreSQL's programs; None where it is not installed."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@dataclass(frozen=True, slots=True)
class Server:
    """A server. `url`: without a database name, as `postgresql+psycopg://postgres@127.0.0.1:5433`."""

    url: str
    control: Sequence[Path | str]
    settings: str

    def restart(self, mode: str = "fast") -> None:
        """Stop it as `pg_ctl stop --mode` says (immediate: as if it crashed), and start it again."""
        _run([*self.control, "-m", mode, "-o", self.settings, "restart"])


@contextmanager
def running_postgres(folder: Path) -> Iterator[Server]:
    """A server for a `with`."""
    with TemporaryDirectory(prefix="postgres-") as place:
        os.chmod(place, 0o777)  # noqa: S103, PTH101  # the server may not run as root, so another user needs it
        yield from _server(folder, Path(place))


def _server(bin_folder: Path, place: Path) -> Iterator[Server]:
    port = _free_port()
    _run([bin_folder / "initdb", "-D", place / "data", "-U", USER, "-A", "trust", "--no-sync"])
    settings = f"-p {port} -k {place} -c listen_addresses=127.0.0.1 -c fsync=off"
    control: list[Path | str] = [bin_folder / "pg_ctl", "-D", place / "data", "-l", place / "log", "-w", "-t", "60"]
    _run([*control, "-o", settings, "start"])
    try:
        yield Server(f"postgresql+psycopg://{USER}@127.0.0.1:{port}", control, settings)
    finally:
        _run([*control, "-m", "immediate", "stop"])


def _run(command: Sequence[Path | str]) -> None:
    user = USER if os.getuid() == 0 else None
    words = [str(part) for part in command]
    subprocess.run(words, user=user, check=True, cwd="/", stdout=subprocess.DEVNULL)  # noqa: S603  # our own words


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
