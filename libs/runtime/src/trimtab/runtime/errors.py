"""Everything the runtime can complain about. Refusals stop a task until a person acts; the rest is tried again."""

from collections.abc import Mapping


class StageRuntimeError(Exception):
    """Root of the runtime's errors."""


class StageInvalidError(StageRuntimeError):
    """A stage contradicts itself."""

    def __init__(self, group: str, problem: str) -> None:
        self.group, self.problem = group, problem
        super().__init__(f"stage {group}: {problem}")


class OutputRefusedError(StageRuntimeError):
    """A step wrote what its stage does not declare."""

    def __init__(self, group: str, topic: str, problem: str) -> None:
        self.group, self.topic = group, topic
        super().__init__(f"stage {group} wrote to {topic}: {problem}")


class FencedError(StageRuntimeError):
    """Another owner has opened the task; what was not committed is void."""

    def __init__(self, transactional_id: str) -> None:
        self.transactional_id = transactional_id
        super().__init__(
            f"{transactional_id}: another producer has taken over; the task opens again if it is still ours"
        )


class OutcomeUnknownError(StageRuntimeError):
    """A request of a transaction was lost on its way: only a new producer can tell whether it took effect."""

    def __init__(self, transactional_id: str, request: str) -> None:
        self.transactional_id, self.request = transactional_id, request
        super().__init__(f"{transactional_id}: no answer to {request}; the task opens again with a new producer")


class StrayCancellationError(StageRuntimeError):
    """Something that a task awaited was cancelled, though the task was not."""

    def __init__(self, task: str) -> None:
        self.task = task
        super().__init__(f"{task}: the client library cancelled an operation of its own; the task opens again")


class BusSilentError(StageRuntimeError):
    """The log does not answer."""

    def __init__(self, request: str, timeout_s: float) -> None:
        self.request, self.timeout_s = request, timeout_s
        super().__init__(f"no answer to {request} within {timeout_s:g} s; it is asked again")


class NotAssignedError(StageRuntimeError):
    """A partition was given to another member meanwhile."""

    def __init__(self, topic: str, partition: int) -> None:
        self.topic, self.partition = topic, partition
        super().__init__(f"{topic}[{partition}] is not assigned to this process any more")


class AssignmentOutdatedError(StageRuntimeError):
    """The group handed out an assignment of topics that this stage does not read."""

    def __init__(self, group: str) -> None:
        self.group = group
        super().__init__(f"group {group} gave out an assignment from before the stage changed; joining again")


class RestoreTooLongError(StageRuntimeError):
    """A restore took so long that the log may have forgotten meanwhile what was removed."""

    def __init__(self, changelog: str, partition: int, spent_ms: int, limit_ms: int) -> None:
        self.changelog, self.partition = changelog, partition
        super().__init__(
            f"reading {changelog}[{partition}] took {spent_ms / 1000:,.0f} s of at most {limit_ms / 1000:,.0f} s;"
            " it begins anew"
        )


class RecordRefusedError(StageRuntimeError):
    """The broker would not have what a step wrote, and never will: it is too large, or no record at all."""

    def __init__(self, topic: str, partition: int, kind: str) -> None:
        self.topic, self.partition = topic, partition
        super().__init__(f"{kind}: the broker refuses what was written to {topic}[{partition}]")


class StepRaisedError(StageRuntimeError):
    """A step, a decoder or a table raised `cause`: a defect of ours, that the same records would bring up again.

    `spans`: first and last offset of the batch, by input. `alone`: it has one cause, a single record or none at all.
    """

    def __init__(self, cause: Exception, spans: Mapping[str, tuple[int, int]], records: int, *, alone: bool) -> None:
        self.cause, self.spans, self.records, self.alone = cause, spans, records, alone
        super().__init__(f"{type(cause).__name__}: {cause}")


class RefusalError(StageRuntimeError):
    """A task must not run on what it finds; it stands still and says so until a person has acted."""


class TopicMissingError(RefusalError):
    """A topic that a stage needs does not exist."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        super().__init__(f"topic {topic} does not exist; `trimtab apply` creates a loop's topics")


class TopicReplacedError(RefusalError):
    """A topic has another id than before: it was deleted and made again, so offsets mean something else."""

    def __init__(self, topic: str, expected: str, found: str) -> None:
        self.topic, self.expected, self.found = topic, expected, found
        super().__init__(
            f"topic {topic} has id {found}, expected {expected}: it was deleted and created again. Positions and "
            "tables made from the old one do not fit; end the loop with `trimtab delete` and apply it anew"
        )


class PartitionsChangedError(RefusalError):
    """A topic has another number of partitions than was declared: keys have moved."""

    def __init__(self, topic: str, expected: int, found: int) -> None:
        self.topic, self.expected, self.found = topic, expected, found
        super().__init__(
            f"topic {topic} has {found} partitions, declared are {expected}: keys would be in two places. "
            "A loop's partition count is fixed; apply it under another name with the new count"
        )


class PositionLostError(RefusalError):
    """A task has written before, yet its position is gone."""

    def __init__(self, task: str, changelog: str, trace: str) -> None:
        self.task, self.changelog = task, changelog
        super().__init__(
            f"task {task}: no position in {changelog}, but {trace}. Starting over would write everything twice; "
            "restore the changelog, or set the position by hand"
        )


class PositionOutOfRangeError(RefusalError):
    """A task's position points outside of what its input holds."""

    def __init__(self, task: str, topic: str, offset: int) -> None:
        self.task, self.topic, self.offset = task, topic, offset
        super().__init__(
            f"task {task}: position {offset} is outside of what {topic} holds: records were deleted before they were "
            "read, or the topic was truncated. Set the position by hand"
        )


class UndeclaredAttributeError(StageRuntimeError):
    """A measure with attributes that schemas/telemetry.yaml does not give its metric."""

    def __init__(self, metric: str, attributes: set[str]) -> None:
        self.metric, self.attributes = metric, attributes
        super().__init__(
            f"metric {metric} has no attributes {sorted(attributes)}; declare them in schemas/telemetry.yaml"
        )


class EdgeAwayError(StageRuntimeError):
    """The log cannot be written to just now; in a while it can."""


class EdgeBusyError(EdgeAwayError):
    """More records wait to be written than the edge holds. Nothing of the call was written."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        super().__init__(f"{waiting} records wait to be written already; try again in a moment")


class EdgeSilentError(EdgeAwayError):
    """The log has not answered in time: the records may still be written."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"no acknowledgement within {timeout_s:g} s; send the same records again, with the same ids")


class EdgeUnreachableError(EdgeAwayError):
    """No broker that would take the records can be reached: they may still be written."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(f"no broker takes them ({kind}); send the same records again, with the same ids")


class TaskUnfitError(StageRuntimeError):
    """What a person decided does not fit how the task is."""

    def __init__(self, task: str, problem: str) -> None:
        self.task = task
        super().__init__(f"{task} {problem}; `trimtab tasks list` shows how it is")


class TaskBusyError(StageRuntimeError):
    """The task's owner took its place back each time."""

    def __init__(self, task: str) -> None:
        self.task = task
        super().__init__(f"{task} is being started over and over; stop its service (`trimtab down`) and try again")
