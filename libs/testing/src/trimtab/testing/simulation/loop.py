"""An event loop without wall clock, threads or sockets: what runs next is drawn from the seed, time jumps.

Coroutines that run in a `Process` can be halted with it at any await point: nothing of them runs any more, no `finally`
and no `except`, until it is resumed. One that is never resumed was killed as by SIGKILL.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, TypeVarTuple, Unpack

from trimtab.testing.simulation.dice import Dice
from trimtab.testing.simulation.errors import ScheduleStuckError

STEP_S = 20e-6
"""What a callback takes, so that time passes also while something is always ready."""

Args = TypeVarTuple("Args")
T = TypeVar("T")
_process: ContextVar["Process"] = ContextVar("process")


class Process:
    """What stops and goes on together. Mutable: its loop alone owns it."""

    def __init__(self, name: str) -> None:
        self.name, self.halted = name, False
        self.held: list[asyncio.Handle] = []
        self.context = copy_context()
        self.context.run(_process.set, self)


def current_process() -> "Process":
    """The process in which the caller runs. Raises LookupError outside of any."""
    return _process.get()


def context_of(handle: asyncio.Handle) -> Context:
    """In which context a callback will run."""
    context: Context = handle._context  # type: ignore[attr-defined]  # asyncio shows it to nobody
    return context


class SeededLoop(asyncio.BaseEventLoop):
    """Runs one ready callback at a time, drawn by the dice; where none is ready, it is the next timer's time.

    `trace`: differs where two runs did. `interrupts`: called when so many callbacks have run, whatever is next.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, dice: Dice, *, most_steps: int = 200_000) -> None:
        super().__init__()
        self.dice, self.steps, self.trace = dice, 0, 0
        self.interrupts: dict[int, list[Callable[[], None]]] = {}
        self._most_steps = most_steps
        self._now_s = 0.0
        self._started: list[asyncio.Task[Any]] = []
        self._processes: list[Process] = []
        self.set_task_factory(self._start)
        self.set_exception_handler(lambda *_: None)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_s

    def launch(self, process: Process, main: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine, and whatever it starts, in a process."""
        self._processes.append(process)
        self.create_task(main, name=process.name, context=process.context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Args]], T], *args: *Args
    ) -> "asyncio.Future[T]":
        """What else runs in a thread is a callback of its own: in a halted process it does not run, else as a whole."""
        del executor
        done: asyncio.Future[T] = self.create_future()

        def run() -> None:
            try:
                done.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 it is the caller's, as in a thread
                done.set_exception(error)

        self.call_soon(run)
        return done

    def halt(self, process: Process) -> None:
        """From now on nothing of it runs."""
        process.halted = True

    def resume(self, process: Process) -> None:
        """It goes on where it stood; what would have happened meanwhile happens now, in any order."""
        process.halted = False
        self._ready.extend(process.held)
        process.held.clear()

    def end(self) -> None:
        """Cancel everything and close. Processes run their cleanup now, when it does not matter any more."""
        self.interrupts.clear()
        self._most_steps = self.steps + self._most_steps
        for process in self._processes:
            self.resume(process)
        while left := [task for task in self._started if not task.done()]:
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.wait(left))
        self.close()

    def _start(self, _: asyncio.AbstractEventLoop, work: Any, context: Context | None = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=self, context=context)
        self._started.append(task)
        return task

    def _run_once(self) -> None:
        for interrupt in self.interrupts.pop(self.steps, ()):
            interrupt()
        if not self._ready and not self._scheduled:
            raise ScheduleStuckError(self.steps, self._now_s)
        self._now_s += STEP_S
        if not self._ready:
            self._now_s = max(self._now_s, self._scheduled[0].when())
        while self._scheduled and self._scheduled[0].when() <= self._now_s:
            self._ready.append(heapq.heappop(self._scheduled))
        handle = self._draw()
        if handle.cancelled():
            return
        owner = context_of(handle).get(_process)
        if owner is not None and owner.halted:
            owner.held.append(handle)
            return
        self.steps += 1
        if self.steps > self._most_steps:
            raise ScheduleStuckError(self.steps, self._now_s)
        handle._run()

    def _draw(self) -> asyncio.Handle:
        count = len(self._ready)
        index = self.dice.below(count) if count > 1 else 0
        self.trace = hash((self.trace, count, index, self._now_s))
        self._ready.rotate(-index)
        return self._ready.popleft()
