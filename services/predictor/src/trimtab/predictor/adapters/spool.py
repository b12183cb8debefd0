"""Records that wait on disk, in a file that a crash at any moment leaves readable."""

import os
from binascii import crc32
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct

import msgspec

from trimtab.predictor.errors import SpoolDamagedError
from trimtab.runtime.records import Out

_head = Struct("<II")
_decode = msgspec.msgpack.Decoder(Out).decode


class Spool:
    """A file of frames, made with the first: length, CRC-32, a record in MessagePack. Frames are only appended.

    What was not written whole when the process was killed, or does not verify, is cut off at the next start, and
    whatever stands behind it; `cut` says how many bytes. Calls block and are made one at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self.size = self.cut = 0
        if path.exists():
            file = self._opened()
            found = os.fstat(file).st_size
            self.size = sum(length for _, length in self._frames(0, found))
            self.cut = found - self.size
            os.ftruncate(file, self.size)

    def append(self, data: bytes) -> None:
        """Return once the disk has the frames. Raises OSError; then none of them is there."""
        file = self._opened()
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(file, data[written:], self.size + written)
            os.fsync(file)
        except OSError:
            os.ftruncate(file, self.size)
            raise
        self.size += len(data)

    def read(self, start: int, most: int) -> tuple[list[Out], int]:
        """At most so many records from a place on, and the place behind them. Raises SpoolDamagedError."""
        outs = list[Out]()
        for out, length in self._frames(start, self.size):
            if len(outs) == most:
                break
            outs.append(out)
            start += length
        if start < self.size and not outs:
            raise SpoolDamagedError(self._path, start)
        return outs, start

    def clear(self, through: int) -> bool:
        """Empty the file, unless more has come behind that place."""
        if through < self.size:
            return False
        os.ftruncate(self._opened(), 0)
        self.size = 0
        return True

    def drop(self) -> None:
        """Delete it, with all that waits."""
        self._path.unlink(missing_ok=True)
        self.size = 0

    def close(self) -> None:
        """Let go; what waits stays."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _opened(self) -> int:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            folder = os.open(self._path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        return self._file

    def _frames(self, start: int, end: int) -> Iterator[tuple[Out, int]]:
        """The records of the whole frames in a stretch, with the frames' lengths."""
        while start + _head.size <= end:
            file = self._opened()
            length, checksum = _head.unpack(os.pread(file, _head.size, start))
            if start + _head.size + length > end:
                return
            body = os.pread(file, length, start + _head.size)
            if crc32(body) != checksum or not body:
                return
            yield _decode(body), _head.size + length
            start += _head.size + length


def framed(outs: Sequence[Out]) -> bytes:
    """The frames of records."""
    bodies = [msgspec.msgpack.encode(out) for out in outs]
    return b"".join(part for body in bodies for part in (_head.pack(len(body), crc32(body)), body))
