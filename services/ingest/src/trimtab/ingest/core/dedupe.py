"""The second half: has this event been here before? Works on headers; bodies are not decoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from trimtab.contracts import times
from trimtab.ingest.core.memory import Memory, holds, id_digest, stretch_end_ms
from trimtab.loops.incoming.verdicts import Refusal

_DAY_MS = 86_400_000
Fate = Literal["new", "copy", "revision"]


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far one event's ids are remembered, in one partition. Both only ever move forward.

    `newest_ms`: its newest event time; `oldest_ms`: events before it are refused, their ids forgotten.
    """

    newest_ms: int
    oldest_ms: int

    def moved(self, progress_ms: int, dedupe_ms: int) -> "Horizon":
        """After time has passed. Both clocks have to agree that it has: a source that is read later than the others
        of its loop goes by its own time, and one of which a part lags behind by the slowest part's.
        """
        return Horizon(self.newest_ms, max(self.oldest_ms, min(self.newest_ms, progress_ms) - dedupe_ms))


class Memo(msgspec.Struct, frozen=True, gc=False):
    """What is known of an accepted event without its body."""

    id: bytes
    time_ms: int
    digest: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Promise:
    """What an event's declaration says of copies."""

    event: str
    dedupe_ms: int
    revisions: bool


def dedupe(
    promise: Promise, memos: Sequence[Memo], horizon: Horizon, memory: Memory, first_offset: int
) -> list[Fate | Refusal]:
    """The fate of each event, in order. Remembers the new ones in `memory`, under the offset of the batch's first.

    The same batch after the same memory gets the same fates. A body that its id had before is a copy, also where a
    correction came in between: whoever sends several again because no answer came sends the older ones again as well.
    """
    memory.forget(promise.event, horizon.oldest_ms)
    known = _Known(memory.bodies(promise.event))
    fates = [_fate(promise, memo, horizon, known) for memo in memos]
    chunks: dict[int, list[bytes]] = {}
    for id_, passed in known.batch.items():
        for memo in passed:
            chunks.setdefault(stretch_end_ms(memo.time_ms, promise.dedupe_ms), []).append(id_ + memo.digest)
    for end_ms, pairs in chunks.items():
        memory.remember(promise.event, end_ms, first_offset, b"".join(pairs))
    return fates


@dataclass(frozen=True, slots=True)
class _Known:
    """What has passed, under the digests of ids: the bodies of earlier batches (see `Memory.bodies`), those of this."""

    before: Mapping[bytes, bytes]
    batch: dict[bytes, list[Memo]] = field(default_factory=dict)


def _fate(promise: Promise, memo: Memo, horizon: Horizon, known: _Known) -> Fate | Refusal:
    if memo.time_ms < horizon.oldest_ms:
        return _too_old(promise, memo, horizon)
    id_ = id_digest(memo.id)
    before, passed = known.before.get(id_), known.batch.get(id_)
    if before is None and passed is None:
        known.batch[id_] = [memo]
        return "new"
    if holds(before or b"", memo.digest) or any(one.digest == memo.digest for one in passed or ()):
        return "copy"
    if not promise.revisions:
        return _conflict(promise, memo)
    known.batch.setdefault(id_, []).append(memo)
    return "revision"


def _too_old(promise: Promise, memo: Memo, horizon: Horizon) -> Refusal:
    reason = (
        f"expected an event time of {times.text(horizon.oldest_ms)} or later, got {times.text(memo.time_ms)}: ids are "
        f"remembered for {promise.dedupe_ms / _DAY_MS:g} d (dedupe), so that an older copy could not be told"
    )
    return Refusal("too_old", reason)


def _conflict(promise: Promise, memo: Memo) -> Refusal:
    reason = (
        f"expected the same body as before under the id {memo.id.decode()!r}, got another; where that is a correction, "
        f"declare events.{promise.event}.revisions = true"
    )
    return Refusal("conflict", reason)
