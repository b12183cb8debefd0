"""When each step of a fit began and ended."""

from collections.abc import Callable, Sequence

Lap = tuple[str, int, int]
"""A step, from when to when on the wall clock, in ns."""


class Laps:
    """Called with each step as it begins. Mutable: one request's. `now_ns`: the wall clock."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._begun: list[tuple[str, int]] = []

    def __call__(self, step: str) -> None:
        self._begun.append((step, self._now_ns()))

    def ended(self) -> Sequence[Lap]:
        """The steps so far; the last ends now.

        >>> clock = iter([3, 5, 9])
        >>> laps = Laps(lambda: next(clock))
        >>> laps("fit"), laps("gate"), laps.ended()
        (None, None, [('fit', 3, 5), ('gate', 5, 9)])
        """
        ends = [*(at_ns for _, at_ns in self._begun[1:]), self._now_ns()]
        return [(step, at_ns, end_ns) for (step, at_ns), end_ns in zip(self._begun, ends, strict=True)]
