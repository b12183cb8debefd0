"""Event-time progress in band: records without a value that say how far a task has come.

`tt_mark` is `<ms>` or `idle`, `tt_task` the task that says so, the key `\\0mark:<task>` (so that compaction keeps a
task's last mark). Steps never see marks.
"""

from typing import NamedTuple

from trimtab.runtime.records import Headers, Read

KEY_PREFIX = b"\x00mark:"
MARK, TASK = "tt_mark", "tt_task"
IDLE = b"idle"


class Mark(NamedTuple):
    """What a mark says: `task` has passed on everything up to `ms`, or (None) has nothing to read for the moment."""

    task: str
    ms: int | None


def task_name(group: str, partition: int) -> str:
    """How a task is called in marks, as a transactional id and in status."""
    return f"{group}-{partition}"


def key_of(task: str) -> bytes:
    """The key under which a task's marks stand."""
    return KEY_PREFIX + task.encode()


def headers_of(mark: Mark) -> Headers:
    """The headers that carry a mark."""
    return ((MARK, IDLE if mark.ms is None else b"%d" % mark.ms), (TASK, mark.task.encode()))


def is_mark(record: Read) -> bool:
    """Whether a record is a mark rather than data or a tombstone."""
    return record.value is None and record.key is not None and record.key.startswith(KEY_PREFIX)


def mark_of(record: Read) -> Mark | None:
    """The mark that a record is; None where it is data or makes no sense."""
    return read(record) if record.value is None and is_mark(record) else None


def read(record: Read) -> Mark | None:
    """The mark in a record for which `is_mark` holds; None where its headers make no sense (it is then skipped)."""
    said = dict(record.headers)
    value, task = said.get(MARK), said.get(TASK)
    if value is None or task is None:
        return None
    if value == IDLE:
        return Mark(task.decode(), None)
    return Mark(task.decode(), int(value)) if value.lstrip(b"-").isdigit() else None
