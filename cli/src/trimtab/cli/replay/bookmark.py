"""How far a replay has come, so that one that was killed goes on where it was."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Everything up to `sent_ms` is in the log. `about`: which files went into which topics."""

    about: str
    sent_ms: int


class BookmarkFile:
    """One file a loop, replaced whole."""

    def __init__(self, folder: Path, loop: str) -> None:
        self._path = folder / "replay" / f"{loop}.json"

    def read(self, about: str) -> Bookmark | None:
        """The bookmark of an earlier replay of the same files into the same topics."""
        try:
            found = Bookmark(**json.loads(self._path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return found if found.about == about else None

    def write(self, bookmark: Bookmark) -> None:
        """Replace it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(asdict(bookmark)))
        part.replace(self._path)


def about(files: Sequence[Path], topic_ids: Sequence[str]) -> str:
    """Identity of a replay: its files as they are now, and its topics, which are others after a delete and an apply."""
    facts = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in sorted(files)]
    return hashlib.sha256(json.dumps([facts, sorted(topic_ids)]).encode()).hexdigest()
