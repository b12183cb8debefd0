"""Schedule after schedule, on all cores."""

import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from trimtab.testing.simulation import silence


@dataclass(frozen=True, slots=True)
class SoFar:
    """How an exploration goes. `failed`: seeds of those schedules that failed since it was last said."""

    first: int
    schedules: int
    spent_s: float
    failed: Sequence[int]

    def __str__(self) -> str:
        a_minute = self.schedules / self.spent_s * 60
        new = f"; failed: {list(self.failed)}" if self.failed else ""
        return f"{self.schedules:,} schedules from seed {self.first}, {a_minute:,.0f} a minute{new}"


def explore(first: int, seconds: float, fails: Callable[[int], bool], *, chunk: int) -> Iterator[SoFar]:
    """Schedules from a seed on, for so long. `fails`: whether that of a seed does; a function of a module."""
    began_s, cores = time.monotonic(), multiprocessing.cpu_count()
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        for start in itertools.count(first, cores * chunk):
            chunks = [range(seed, seed + chunk) for seed in range(start, start + cores * chunk, chunk)]
            failed = list(itertools.chain.from_iterable(pool.map(partial(failing, fails), chunks)))
            spent_s = time.monotonic() - began_s
            yield SoFar(first, start + cores * chunk - first, spent_s, failed)
            if spent_s > seconds:
                return


def failing(fails: Callable[[int], bool], seeds: Sequence[int]) -> list[int]:
    """Which of these schedules fail. Runs in a process of its own."""
    with silence():
        return [seed for seed in seeds if fails(seed)]
