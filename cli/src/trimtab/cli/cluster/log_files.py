"""The logs of the local cluster: one file a process, read together."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from trimtab.cli.errors import ClusterError

TAIL_BYTES = 256_000
LOOK_S = 0.3


class NoLogError(ClusterError):
    """Nobody of that name has written a log."""

    def __init__(self, name: str | None, folder: Path, known: list[str]) -> None:
        near = difflib.get_close_matches(name or "", known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}" if known else "nothing ran yet"
        super().__init__(f"no log of {name or 'anything'} in {folder}: {hint}")


def log_files(folder: Path, service: str | None) -> dict[str, Path]:
    """Log files by name, of one service (all its replicas) or of all. Raises NoLogError."""
    files = {path.stem: path for path in sorted(folder.glob("*.log"))}
    chosen = {
        name: path
        for name, path in files.items()
        if service is None
        or name == service
        or (name.startswith(f"{service}-") and name[len(service) + 1 :].isdecimal())
    }
    if not chosen:
        raise NoLogError(service, folder, sorted({name.rstrip("0123456789").rstrip("-") for name in files}))
    return chosen


def last_lines(files: Mapping[str, Path], count: int) -> Iterator[tuple[str, str]]:
    """(name, line) of the last lines of each file, file by file."""
    for name, path in files.items():
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        for line in lines[len(lines) - min(count, len(lines)) :]:
            yield name, line


def follow(files: Mapping[str, Path], sleep: Callable[[float], None]) -> Iterator[tuple[str, str]]:
    """(name, line) as lines are added, without end; a file that is replaced is read from its start."""
    seen = {name: path.stat().st_size for name, path in files.items()}
    rest = dict.fromkeys(files, b"")
    while True:
        for name, path in files.items():
            size = path.stat().st_size if path.exists() else 0
            if size < seen[name]:
                seen[name], rest[name] = 0, b""
            if size > seen[name]:
                with path.open("rb") as file:
                    file.seek(seen[name])
                    data = rest[name] + file.read(size - seen[name])
                seen[name] = size
                *whole, rest[name] = data.split(b"\n")
                yield from ((name, line.decode(errors="replace")) for line in whole)
        sleep(LOOK_S)
