"""What the detector of a loop remembers: packed tables, and the few scalars beside them."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from trimtab.ml.evidence import Evidence
from trimtab.ml.evidence import unpack as unpack_evidence
from trimtab.monitor.core.predictions import Deployment
from trimtab.monitor.core.quality import Counts, Rule
from trimtab.monitor.core.rows import Rows, unpack
from trimtab.monitor.core.silence import Closing
from trimtab.runtime.table import Table, TableSpec

Key = tuple[int, ...]


class Tip(msgspec.Struct, frozen=True, array_like=True, order=True):
    """A sampled record, from which a trace may lead on."""

    at_ms: int
    traceparent: str


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A hold that stands."""

    rule: Rule
    name: str
    share: float
    limit: float
    since_ms: int


class Closed(msgspec.Struct, frozen=True, array_like=True):
    """How far a source's label windows are closed (see `silence.Closing`)."""

    judged_ms: int
    through_ms: int
    silent: bool

    @classmethod
    def of(cls, closing: Closing) -> "Closed":
        """As it is kept."""
        return cls(closing.judged_ms, closing.through_ms, closing.silent)

    def closing(self) -> Closing:
        """As it goes on."""
        return Closing(self.judged_ms, self.through_ms, self.silent)


class Clock(msgspec.Struct, frozen=True, array_like=True):
    """The scalars. All times in event time.

    `began_ms`: start of the loop's first bucket. `folded_ms`: buckets that end up to here are folded. `ticked_ms`,
    `measured_ms`: the last time.advanced and performance.measured. `outcomes`: settled so far; `matured_rows`,
    `matured_positives`: labelled ones asked before `matured_ms`; `*_measured`: what they were at the last measurement.
    `reign`: the sequence with which the reign began whose looks are kept, -1 without one; `detector`: what tells its
    detector from another; `looks`: how many it had; `labelled_ms`: its looks of labels that end up to then are closed.
    `spoiled`: holds, as (since, until), 2^62 while they stand: their looks are left out. `cleared`: rule, subject and
    end of holds that ended lately. `closing` None: no boundary judged yet. `tip`: the newest sampled record that is
    folded. `filled_ms`: the end of the last bucket that held rows.
    """

    began_ms: int
    folded_ms: int
    ticked_ms: int
    measured_ms: int
    outcomes: int = 0
    outcomes_measured: int = 0
    matured_rows: int = 0
    matured_positives: int = 0
    matured_measured: int = 0
    matured_ms: int = -(2**62)
    reign: int = -1
    detector: str = ""
    looks: int = 0
    labelled_ms: int = -(2**62)
    holds: tuple[Held, ...] = ()
    spoiled: tuple[tuple[int, int], ...] = ()
    cleared: tuple[tuple[Rule, str, int], ...] = ()
    closing: Closed | None = None
    tip: Tip | None = None
    filled_ms: int = -(2**62)


class Look(msgspec.Struct, frozen=True, array_like=True):
    """A closed look of the reign: mean (None: no rows) and rows of each signal of its detector."""

    start_ms: int
    means: list[float | None]
    counts: list[int]


def _encode_key(key: Key) -> bytes:
    return b"".join(part.to_bytes(8, "big", signed=True) for part in key)


def _decode_key(data: bytes) -> Key:
    return tuple(int.from_bytes(data[i : i + 8], "big", signed=True) for i in range(0, len(data), 8))


def _packed(name: str) -> TableSpec[Key, Rows]:
    return TableSpec(name, _encode_key, _decode_key, Rows.pack, unpack)


def _structs(name: str, kind: type[Any]) -> TableSpec[Key, Any]:
    return TableSpec(
        name, _encode_key, _decode_key, msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(kind).decode
    )


def _encode_counts(counts: Counts) -> bytes:
    return np.concatenate([[counts.start_ms, counts.version], counts.rows, counts.bad]).astype("<i8").tobytes()


def _decode_counts(data: bytes) -> Counts:
    values = np.frombuffer(data, "<i8").astype(np.int64)
    half = 2 + (len(values) - 2) // 2
    return Counts(int(values[0]), int(values[1]), values[2:half], values[half:])


NAMES = TableSpec("names", str.encode, bytes.decode, lambda n: n.to_bytes(4, "big"), lambda b: int.from_bytes(b, "big"))
"""Signal → the number it has in packed rows."""
OPEN = _packed("open")
"""(bucket) → rows that became known in it; folded once the watermark has passed its end."""
LOOKS = _packed("looks")
"""(family, start) → the champion's rows of a look that is not closed yet."""
TALLIES = _packed("tallies")
"""(block) → what settled outcomes say, of all versions."""
LABELLED = _structs("labelled", tuple[int, int])
"""(bucket of asking) → labelled rows and positives that have not matured."""
ARRIVALS = _structs("arrivals", int)
"""(signal, fine bucket) → events that arrived, of those whose source may fall silent."""
COUNTS: TableSpec[Key, Counts] = TableSpec("counts", _encode_key, _decode_key, _encode_counts, _decode_counts)
"""(bucket) → rows and bad rows by quality subject."""
HISTORY = _structs("history", Look)
"""(0, 1, 2, …) → the reign's closed looks, in the order in which the detector took them."""
EVIDENCE: TableSpec[Key, Evidence] = TableSpec("evidence", _encode_key, _decode_key, Evidence.pack, unpack_evidence)
"""() → what the reign's detector remembers between looks."""
DEPLOYMENTS = _structs("deployments", tuple[int, str, int])
"""(sequence) → version, digest, earliest event time."""
TIPS = _structs("tips", Tip)
"""(bucket) → the newest sampled record in it."""
CLOCK = _structs("clock", Clock)
"""() → the scalars."""
SPECS = (NAMES, OPEN, LOOKS, TALLIES, LABELLED, ARRIVALS, COUNTS, HISTORY, EVIDENCE, DEPLOYMENTS, TIPS, CLOCK)


class Ledger:
    """The detector's tables by name, typed. They are the task's own and change in place."""

    def __init__(self, tables: Mapping[str, Table[Any, Any]]) -> None:
        self.names: Table[str, int] = tables["names"]
        self.open: Table[Key, Rows] = tables["open"]
        self.looks: Table[Key, Rows] = tables["looks"]
        self.tallies: Table[Key, Rows] = tables["tallies"]
        self.labelled: Table[Key, tuple[int, int]] = tables["labelled"]
        self.arrivals: Table[Key, int] = tables["arrivals"]
        self.counts: Table[Key, Counts] = tables["counts"]
        self.history: Table[Key, Look] = tables["history"]
        self.evidence: Table[Key, Evidence] = tables["evidence"]
        self.deployments: Table[Key, tuple[int, str, int]] = tables["deployments"]
        self.tips: Table[Key, Tip] = tables["tips"]
        self._clock: Table[Key, Clock] = tables["clock"]

    @property
    def clock(self) -> Clock | None:
        """The scalars; None before the first data."""
        return self._clock.get(())

    def set_clock(self, clock: Clock) -> None:
        """Set the scalars."""
        self._clock.put((), clock)

    def number(self, name: str) -> int:
        """The number of a signal; a new one for a new signal."""
        known = self.names.get(name)
        if known is None:
            known = len(self.names)
            self.names.put(name, known)
        return known

    def name_of(self) -> dict[int, str]:
        """The names of all signals by their number, in the order of the numbers."""
        return dict(sorted((number, name) for name, number in self.names.items()))

    def see(self, deployment: Deployment) -> None:
        """Remember a deployment from its earliest prediction on."""
        before = self.deployments.get((deployment.sequence,))
        if before is None or deployment.first_ms < before[2]:
            self.deployments.put((deployment.sequence,), (deployment.version, deployment.digest, deployment.first_ms))


def empty() -> Ledger:
    """A ledger without a log, for a backtest."""
    return Ledger({spec.name: Table(spec) for spec in SPECS})
