"""How far a replay may go: at most `lead` of event time beyond the slowest service, and not while a retrain is open.

Pure. A snapshot of the services is taken first, the control plane is read to its end afterwards. So whatever followed
from events up to the snapshot's progress is in the log when it is read; and up to the first event that the deciders'
positions in the snapshot do not cover, everything that follows from it is there too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.cli.replay.watch import Watched


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What all services say at one moment.

    `progress_ms`: the event time that every stage of the loop has reached; None: some stage is not running, or knows
    none yet. `read`: (stage, topic, partition) → next offset, of work that is committed. `sequence`: the oldest
    deployment that a predictor serves by. `running`: whether all tasks run. `idle`: whether all wait for events;
    `awake`: whether none counts as idle. `refused`: deployments that a predictor would not take, and why. `standing`:
    tasks that stand still until a person decides, and why.
    """

    progress_ms: int | None
    read: Mapping[tuple[str, str, int], int]
    sequence: int
    running: bool
    idle: bool
    refused: Sequence[str] = ()
    awake: bool = True
    standing: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Allowance:
    """Up to which event time events may be sent; `why` not further."""

    until_ms: int
    why: str


def covers(snapshot: Snapshot, watched: Watched) -> bool:
    """Whether the deciders have read every control event that was found in the topics that they read."""
    return all(offset > watched.last.get((topic, part), -1) for (_, topic, part), offset in snapshot.read.items())


def decided_ms(snapshot: Snapshot, watched: Watched) -> int | None:
    """Up to which event time every decision has been made; None: unknown."""
    due = [
        at_ms
        for (_, topic, part), read in snapshot.read.items()
        for offset, at_ms in watched.times.get((topic, part), ())
        if offset >= read
    ]
    return None if snapshot.progress_ms is None else min([snapshot.progress_ms, *(at_ms - 1 for at_ms in due)])


def allowance(before: Allowance, snapshot: Snapshot, watched: Watched, lead_ms: int) -> Allowance:
    """What may be sent now; never less than before."""
    if watched.open:
        return Allowance(before.until_ms, "a retrain is open")
    if not snapshot.running:
        return Allowance(before.until_ms, "services are starting")
    if snapshot.sequence < watched.sequence:
        return Allowance(before.until_ms, "the predictor loads a model")
    decided = decided_ms(snapshot, watched)
    if decided is None or snapshot.progress_ms is None:
        return Allowance(before.until_ms, "services are behind")
    why = "services are behind" if decided == snapshot.progress_ms else "decisions are due"
    return Allowance(max(before.until_ms, decided + lead_ms), why)


def is_awake(snapshot: Snapshot, at_ms: int) -> bool:
    """Whether every stage goes by the replay's time, which is `at_ms`, and holds none of its inputs for idle.

    From idle to busy the tasks of a stage change one by one. A reader that has heard of the first would take its time
    for the time of all, and what the others bring would be late.
    """
    return snapshot.running and snapshot.awake and snapshot.progress_ms is not None and snapshot.progress_ms >= at_ms


def is_done(snapshot: Snapshot, watched: Watched, last_ms: int) -> bool:
    """Whether everything up to `last_ms` has been worked off, and nothing is about to follow from it."""
    reached = snapshot.running and snapshot.idle and snapshot.progress_ms is not None
    caught_up = covers(snapshot, watched) and snapshot.sequence >= watched.sequence and not watched.open
    return reached and caught_up and (snapshot.progress_ms or 0) >= last_ms
