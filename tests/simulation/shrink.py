"""The fewest faults and events with which a schedule still fails."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, Self, TypeVar

from trimtab.testing.simulation import Fault


class Shrinkable(Protocol):
    """A plan of either world."""

    @property
    def faults(self) -> Sequence[Fault]: ...

    def with_faults(self, faults: Sequence[Fault]) -> Self:
        """The same with other faults."""
        ...

    def shorter(self) -> Iterator[Self]:
        """The same with less to do."""
        ...


P = TypeVar("P", bound=Shrinkable)


def shrink(plan: P, fails: Callable[[P], bool]) -> P:
    """Take away what is not needed, a piece at a time, until every piece is (Zeller, Hildebrandt 2002: 1-minimal)."""
    while (smaller := next(filter(fails, _smaller(plan)), None)) is not None:
        plan = smaller
    return plan


def _smaller(plan: P) -> Iterator[P]:
    half = len(plan.faults) // 2
    if half > 1:
        yield plan.with_faults(plan.faults[:half])
        yield plan.with_faults(plan.faults[half:])
    for index in range(len(plan.faults)):
        yield plan.with_faults([*plan.faults[:index], *plan.faults[index + 1 :]])
    yield from plan.shorter()
