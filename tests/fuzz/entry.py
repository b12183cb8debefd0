"""What is fuzzed: an entry's inputs, and the check that a batch of them goes through."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import hypothesis
from hypothesis import HealthCheck, Phase, strategies

PHASES = (Phase.generate, Phase.shrink)
LONGEST_TOLD = 4_000


class Counted(NamedTuple):
    """How many inputs of a batch were let in and how many were refused with a reason."""

    accepted: int
    rejected: int


class LostError(Exception):
    """An input that is neither there exactly once nor refused with its reason and its bytes."""


Check = Callable[[Sequence[Any]], Counted]
"""Raises LostError, or whatever made the entry fall over."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`batch`: about how many inputs a check takes at once. `open`: what it needs meanwhile, and the check.

    `least`: the fewest; a check that takes long whatever it is given wants many. `weight`: the entry's share of all
    inputs, beside the others'.
    """

    name: str
    inputs: "strategies.SearchStrategy[Any]"
    batch: int
    open: Callable[[], AbstractContextManager[Check]]
    weight: int = 4
    least: int = 1


@dataclass(slots=True)
class Row:
    """What an entry did with its inputs. `finding`: the smallest batch that it does not bear, and what became of it."""

    entry: str
    inputs: int = 0
    accepted: int = 0
    rejected: int = 0
    crashed: int = 0
    lost: int = 0
    finding: str = ""


def fuzz(entry: Entry, inputs: int, seed: int) -> Row:
    """Give an entry so many inputs. They follow from the seed and the number, and so does what is found."""
    row = Row(entry.name)
    try:
        with entry.open() as check:
            rounds = 0
            while row.inputs < inputs and not row.finding:
                _round(entry, check, row, (inputs - row.inputs, seed + rounds))
                rounds += 1
    except Exception as error:  # noqa: BLE001 what is lost may show at the end, after all inputs
        _found(row, error)
    return row


def _round(entry: Entry, check: Check, row: Row, drawn: tuple[int, int]) -> None:
    inputs, seed = drawn

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=math.ceil(inputs / entry.batch),
        phases=PHASES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @hypothesis.given(strategies.lists(entry.inputs, min_size=entry.least, max_size=2 * entry.batch))
    def attempt(batch: list[Any]) -> None:
        counted = check(batch)
        row.inputs += len(batch)
        row.accepted += counted.accepted
        row.rejected += counted.rejected

    try:
        attempt()
    except Exception as error:  # noqa: BLE001 whatever an entry raises is what is looked for
        _found(row, error)


def _found(row: Row, error: Exception) -> None:
    row.lost, row.crashed = (1, 0) if isinstance(error, LostError) else (0, 1)
    told = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    row.finding = told if len(told) < LONGEST_TOLD else f"{told[:LONGEST_TOLD]}…"
