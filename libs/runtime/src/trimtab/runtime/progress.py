"""How far a task has come in event time: the minimum over its inputs, idle ones left out.

Pure: told of marks, reported times and silence, asked for the progress. A task's clocks are part of its position
record, so a restarted task knows what it knew.
"""

from collections.abc import Iterable, Mapping, Sequence

from trimtab.runtime.marks import Mark, task_name
from trimtab.runtime.stage import UNKNOWN_MS

IDLE_AFTER_MS = 1_000
"""A reported clock is idle after so long at the end of its partition."""
RULED_IDLE_AFTER_MS = 60_000
"""The same, where the producer sends marks itself and has then fallen silent without saying so."""
WALL_STEP_MS = 60_000
"""So often an idle clock that goes by the wall moves on."""


def combine(clocks: Iterable[tuple[int, bool]]) -> tuple[int, bool]:
    """(progress, idle) of several (progress, idle): the minimum of those that are not idle.

    When all are idle, everything has been read, and the newest time counts: so the end of a stretch is the same
    whoever fell idle first (as in Flink's status watermark valve).

    >>> combine([(5, False), (3, True)])
    (5, False)
    >>> combine([(5, True), (3, True)])
    (5, True)
    """
    known = list(clocks)
    live = [ms for ms, idle in known if not idle]
    if live:
        return min(live), False
    return max((ms for ms, _ in known), default=UNKNOWN_MS), True


class WriterClock:
    """The clock of an input that our own stages write: one mark a writing task.

    Mutable: its task alone owns it. Until each writer has said something, the progress is unknown.
    """

    idle_after_ms: int | None = None

    def __init__(self, tasks: Sequence[str]) -> None:
        self._marks: dict[str, tuple[int, bool]] = dict.fromkeys(tasks, (UNKNOWN_MS, False))

    def mark(self, mark: Mark) -> None:
        """Take a mark; one of a task that does not (or no longer) write this input changes nothing."""
        before = self._marks.get(mark.task)
        if before is not None:
            self._marks[mark.task] = (before[0], True) if mark.ms is None else (max(before[0], mark.ms), False)

    def report(self, at_ms: int) -> None:
        """Steps report the time of users' topics only; this clock goes by marks alone."""

    def silent(self, now_ms: int) -> None:
        """Silence of the topic says nothing: a writer says itself when it is idle."""

    def now(self) -> tuple[int, bool]:
        """(progress, idle)."""
        return combine(self._marks.values())

    def state(self) -> dict[str, object]:
        """For the position record."""
        return {"marks": {task: [ms, idle] for task, (ms, idle) in self._marks.items()}}

    def restore(self, state: Mapping[str, object]) -> None:
        """Take over what a position record says, as far as it concerns this clock's writers."""
        marks = state.get("marks")
        if isinstance(marks, dict):
            known = {task: (int(said[0]), bool(said[1])) for task, said in marks.items()}
            self._marks.update({task: said for task, said in known.items() if task in self._marks})


class ReportedClock:
    """The clock of a users' topic: the newest event time its step reported, idle after a second at the end.

    A producer that sends marks itself (`trimtab replay`) rules: reports do not count, and silence only after a
    minute, until it says `idle`; after that, reports count again.

    `wall_reach_ms`: while it is idle, it goes by the wall clock, unless its newest time is older than that: then it
    is a history that somebody plays. None: it stands.
    """

    def __init__(self, wall_reach_ms: int | None = None) -> None:
        self._at_ms, self._idle, self._ruled = UNKNOWN_MS, False, False
        self._wall_reach_ms, self._silent_ms = wall_reach_ms, 0

    @property
    def idle_after_ms(self) -> int | None:
        """How long at the end of its partition makes it idle, or moves it on; None where silence changes nothing."""
        if self._idle:
            return None if self._wall_reach_ms is None else self._silent_ms + WALL_STEP_MS
        return RULED_IDLE_AFTER_MS if self._ruled else IDLE_AFTER_MS

    def mark(self, mark: Mark) -> None:
        """Take a mark of the topic's producer."""
        self._silent_ms = 0
        if mark.ms is None:
            self._idle, self._ruled = True, False
        else:
            self._at_ms, self._idle, self._ruled = max(self._at_ms, mark.ms), False, True

    def report(self, at_ms: int) -> None:
        """Take the newest event time that a step saw."""
        self._silent_ms = 0
        if not self._ruled:
            self._at_ms, self._idle = max(self._at_ms, at_ms), False

    def silent(self, now_ms: int) -> None:
        """The end of the partition has been reached, and nothing came for `idle_after_ms`. `now_ms`: the wall clock."""
        self._silent_ms = self.idle_after_ms or 0
        self._idle, self._ruled = True, False
        if self._wall_reach_ms is not None and UNKNOWN_MS < now_ms - self._wall_reach_ms <= self._at_ms:
            self._at_ms = max(self._at_ms, now_ms)

    def now(self) -> tuple[int, bool]:
        """(progress, idle)."""
        return self._at_ms, self._idle

    def state(self) -> dict[str, object]:
        """For the position record."""
        return {"at_ms": self._at_ms, "idle": self._idle, "ruled": self._ruled}

    def restore(self, state: Mapping[str, object]) -> None:
        """Take over what a position record says."""
        at_ms = state.get("at_ms")
        if isinstance(at_ms, int):
            self._at_ms, self._idle, self._ruled = at_ms, bool(state.get("idle")), bool(state.get("ruled"))


Clock = WriterClock | ReportedClock


def writer_clock(writers: Mapping[str, int]) -> WriterClock:
    """A clock for the tasks of the stages that write a topic: group → number of tasks."""
    return WriterClock([task_name(group, partition) for group, tasks in writers.items() for partition in range(tasks)])


class Progress:
    """The progress of one reader over its clocks, by topic (or by partition, for a view). Never goes back."""

    def __init__(self, clocks: Mapping[str, Clock]) -> None:
        self._clocks = dict(clocks)
        self._passed_ms = UNKNOWN_MS

    def clock(self, name: str) -> Clock | None:
        """The clock of an input; None where it has none."""
        return self._clocks.get(name)

    def now(self) -> tuple[int, bool]:
        """(progress in ms, idle). Idle: nothing to read; what was reached stands."""
        at_ms, idle = combine([clock.now() for clock in self._clocks.values()])
        self._passed_ms = max(self._passed_ms, at_ms)
        return self._passed_ms, idle

    def state(self) -> dict[str, object]:
        """For the position record."""
        return {"passed_ms": self._passed_ms, "clocks": {name: clock.state() for name, clock in self._clocks.items()}}

    def restore(self, state: Mapping[str, object]) -> None:
        """Take over what a position record says; a clock it does not name stays at its beginning."""
        passed_ms, clocks = state.get("passed_ms"), state.get("clocks")
        if isinstance(passed_ms, int):
            self._passed_ms = passed_ms
        if isinstance(clocks, dict):
            for name, said in clocks.items():
                if name in self._clocks:
                    self._clocks[name].restore(said)
