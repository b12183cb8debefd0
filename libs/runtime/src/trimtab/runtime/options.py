"""How a worker runs its tasks: rhythm, patience, back-off."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """`flush_s`: how long a moved position may stay unwritten, and how often group offsets are committed. `backoff_s`,
    `backoff_most_s`: wait before a failed task opens again, doubled each time. `check_s`: how often topics are
    compared with what was declared. `close_s`: how long a task may take to finish its transaction. `marks_s`:
    how often a task whose time is the wall clock's says how far it has come, at most: that goes to every
    partition of its outputs, and each costs as much as data; `marks_rest_s`: the same where nobody awaits it
    (`Stage.awaited_grain_ms`). `breath_s`: a task rests after a transaction as long as that took, but no
    longer than this: on a busy machine fewer transactions, of more records each, leave more of it for all.
    `park_after`: failures of a step in a row, at the same position, after which a task stands still until a person
    has decided. `open_s`: longer than a transaction is open where all is well.
    """

    flush_s: float = 1.0
    backoff_s: float = 0.5
    backoff_most_s: float = 30.0
    check_s: float = 10.0
    close_s: float = 5.0
    marks_s: float = 0.1
    marks_rest_s: float = 0.5
    breath_s: float = 0.25
    park_after: int = 5
    open_s: float = 60.0
