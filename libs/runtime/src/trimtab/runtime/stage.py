"""What a stage is: its inputs, outputs and tables, and the pure step that runs on each batch."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from trimtab.contracts.codec import Schema
from trimtab.contracts.specs import Metric
from trimtab.runtime.control import Refused
from trimtab.runtime.records import Out, Read
from trimtab.runtime.table import Table, TableSpec

UNKNOWN_MS = -(2**62)
"""Progress before anything is known."""


@dataclass(frozen=True, slots=True)
class Input:
    """A partitioned input. All partitioned inputs of a stage are co-partitioned: task p reads partition p of each.

    `clock` says how its event time advances: "marks" (the upstream stage `writers` send progress marks in band),
    "reported" (a user's topic: the step reports the newest event time it saw in `Result.clocks`; idle after 1 s at the
    end, unless its producer sends marks), or "none" (control topics: they never hold time back).
    `writers`: the groups of the stages that write it, each with their number of tasks.
    `schema`: the Avro schema in which the step wants its records, whichever version of it their writers had.
    `wall_reach_ms`: of a reported input, which goes by the wall clock while nothing comes (see `ReportedClock`).
    """

    topic: str
    clock: Literal["marks", "reported", "none"] = "marks"
    writers: Mapping[str, int] = field(default_factory=dict)
    schema: Schema | None = None
    wall_reach_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A topic the stage writes. `marks`: whether its partitions carry this stage's progress."""

    topic: str
    partitions: int
    marks: bool = True


class View(Protocol):
    """A broadcast input: every partition, from the start, in no consumer group; shared by all tasks of a process."""

    @property
    def topic(self) -> str: ...
    @property
    def clock(self) -> Literal["marks", "none"]: ...
    @property
    def writers(self) -> Mapping[str, int]: ...

    def apply(self, records: Sequence[Read]) -> Sequence[Refused] | None:
        """Fold records into the view, in partition order; gives back what could not be read. Marks do not arrive here.

        What it raises ends the process.
        """


@runtime_checkable
class AvroView(View, Protocol):
    """A view that wants its records in one Avro schema, whichever version of it their writers had."""

    @property
    def schema(self) -> Schema: ...


@runtime_checkable
class TimedView(View, Protocol):
    """A view with a clock that wants to know it."""

    def reached(self, at_ms: int) -> None:
        """Its writers have come so far, and all that they wrote before has been applied."""


@runtime_checkable
class PreparedView(View, Protocol):
    """A view that has work to do before it is used, which must not hold up the process: it is awaited."""

    async def prepare(self) -> None:
        """Called once, when all that was there at the start has been applied; the view is ready when it returns."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Work outside the step (a fit in a child process), started by a result and answered in a later batch.

    `id` makes it idempotent: while one with the same id runs, another is not started. Effects die with their task;
    `Stage.resume` says which to start when it opens again.
    """

    id: str
    payload: Any


@dataclass(frozen=True, slots=True)
class EffectDone:
    """How an effect ended: its value, or the exception it raised."""

    id: str
    value: Any = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step gets. Times are ms since the epoch.

    `records`: by input topic, in offset order. `progress_ms`: the event time that all inputs have reached, idle ones
    left out (UNKNOWN_MS at first); a step is also called with no records when it has advanced. `now_ms`: wall clock.
    """

    records: Mapping[str, Sequence[Read]]
    progress_ms: int
    now_ms: int
    done: Sequence[EffectDone] = ()


@dataclass(frozen=True, slots=True)
class Measure:
    """A number for a declared metric: added to a counter, observed by a histogram, set on a gauge."""

    metric: Metric
    value: float
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Milestone:
    """A piece of work on the way of a trace that is worth a span of its own.

    `trace`: the traceparent that it follows from. Several of one trace follow from each other, and what the same result
    writes with that traceparent follows from the last. `times_ns`: its begin and end on the wall clock; None: the
    batch's.
    """

    trace: str
    name: str
    attributes: Mapping[str, str | int | float] = field(default_factory=dict)
    times_ns: tuple[int, int] | None = None


Record = Callable[[Iterable[Measure]], None]
"""Where measures go."""


def unrecorded(_: Iterable[Measure]) -> None:
    """Measures of tests go nowhere."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a step wants done, in one transaction with its tables and its position.

    `clocks`: newest event time seen, for "reported" inputs. `progress_ms`: overrides the progress the task passes on
    (a stage that holds records back inside its tables must not claim their time). `measures`: recorded once the
    transaction has been committed, so that a batch run twice is counted once. `milestones`: likewise, in traces.
    """

    out: Sequence[Out] = ()
    clocks: Mapping[str, int] = field(default_factory=dict)
    effects: Sequence[Effect] = ()
    progress_ms: int | None = None
    measures: Sequence[Measure] = ()
    milestones: Sequence[Milestone] = ()


Tables = Mapping[str, Table[Any, Any]]


class Step(Protocol):
    """A pure function of (tables, batch): it changes nothing but its tables and says what else should happen."""

    def __call__(self, partition: int, tables: Tables, batch: Batch, /) -> Result: ...


async def no_effects(_: Effect) -> Any:
    """The performer of a stage without effects."""
    raise NotImplementedError("this stage declares no effects")


def nothing_to_resume(_partition: int, _tables: Tables) -> Sequence[Effect]:
    """The resume of a stage without effects."""
    return ()


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage runs as `partitions` tasks (stage, partition), each with its own transactions.

    `group`: consumer group `<service>.<verb>[.<loop>]`; the transactional id of a task is `<group>-<partition>`.
    `changelog`: compacted topic with `partitions` partitions that holds each task's position and tables.
    `gate`: topics of `views` whose progress must have passed a record's event time before the record is offered
    (event time of a record: its `ce_time` header); with `gate_grain_ms` and `gate_settling_ms`, the beginning of the
    grain at that time less the settling, where all the step looks at was before that. A record dated within a minute
    of the wall clock waits at most `max_wait_ms`; an older one (a replay) without bound.
    `commit_interval_ms`: least time between two transactions of a task, unless a batch is full. Stages off the way from
    event to prediction take 100 or more. `live_interval_ms`: the same while the task's time is the wall clock's, and
    fetches rest for half of it. Small transactions and fetches cost a few ms of CPU each, and where they fill a
    machine, fewer of them end sooner; a replay is a chain in which each rest costs throughput. `awaited_grain_ms`:
    somebody waits for the beginning of each grain of so many ms, and hardly for any other time: to tell of it, the
    stage ends its rest.
    """

    group: str
    changelog: str
    partitions: int
    inputs: Sequence[Input]
    step: Step
    outputs: Sequence[Output] = ()
    tables: Sequence[TableSpec[Any, Any]] = ()
    views: Sequence[View] = ()
    gate: Sequence[str] = ()
    gate_grain_ms: int = 1
    gate_settling_ms: int = 0
    max_wait_ms: int = 100
    max_batch: int = 5_000
    commit_interval_ms: int = 10
    live_interval_ms: int = 15
    awaited_grain_ms: int | None = None
    perform: Callable[[Effect], Awaitable[Any]] = no_effects
    resume: Callable[[int, Tables], Sequence[Effect]] = nothing_to_resume
