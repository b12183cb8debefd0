"""Between processes and the bus: requests take their time, and a few are lost, unanswered or held."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from enum import StrEnum

from trimtab.runtime.errors import StageRuntimeError
from trimtab.testing.simulation.dice import Dice

PATIENCE_S = 0.2
"""After so long without an answer a process gives a request up."""
HELD_S = 0.5
"""A request that is held arrives at the latest so long after that."""
OVERTAKEN = 3
"""Or when so many later requests of its sender have arrived."""
_STORMY = 0.3
_SHORT_S, _LONG_S = 0.004, 0.1


class Fate(StrEnum):
    """What may become of a request."""

    PROMPT = "prompt"
    LOST = "request lost"
    UNANSWERED = "answer lost"
    HELD = "request held, applied after its sender has given up"


_STORM = [Fate.LOST, Fate.UNANSWERED, Fate.HELD, Fate.HELD]
Action = Callable[[], None]


@dataclass(slots=True)
class _Held:
    """A request that waits for others to overtake it, until its timer fires."""

    arrive: Action
    timer: asyncio.TimerHandle
    overtaken: int


class Wire:
    """Mutable. `fates`: of the next requests that change something. `storm_s`: until then any of them may go wrong.

    `aim`: how the names of those senders begin whose requests go wrong.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, dice: Dice) -> None:
        self.fates: deque[Fate] = deque()
        self.under_way = 0
        self.storm_s = 0.0
        self.aim = ""
        self._loop, self._dice = loop, dice
        self._held: dict[str, _Held] = {}

    def latency_s(self) -> float:
        """Often none, mostly short, now and then long; always long in a storm."""
        drawn = self._dice.unit()
        if self._loop.time() < self.storm_s:
            return drawn * _LONG_S
        if drawn < 0.5:
            return 0.0
        return drawn * (_SHORT_S if drawn < 0.97 else _LONG_S)

    async def wait(self) -> None:
        """The way of a request that changes nothing."""
        if (latency_s := self.latency_s()) > 0:
            await asyncio.sleep(latency_s)

    async def ask(self, sender: str, action: Action, silence: StageRuntimeError) -> None:
        """Do something at the bus, also when who asked is dead by then.

        Raises what the action raises, or `silence` where no answer comes in time.
        """
        fate = self._fate() if sender.startswith(self.aim) else Fate.PROMPT
        answer: asyncio.Future[None] = self._loop.create_future()
        if fate is not Fate.PROMPT:
            self._loop.call_later(PATIENCE_S, _fail, answer, silence, context=Context())
        if fate is not Fate.LOST:
            self.under_way += 1

            def arrive() -> None:
                self.under_way -= 1
                _answer(action, answer if fate is Fate.PROMPT else None)
                self._overtake(sender)

            self._send(sender, arrive, fate)
        await answer

    def _fate(self) -> Fate:
        if self.fates:
            return self.fates.popleft()
        stormy = self._loop.time() < self.storm_s and self._dice.chance(_STORMY)
        return self._dice.pick(_STORM) if stormy else Fate.PROMPT

    def _send(self, sender: str, arrive: Action, fate: Fate) -> None:
        if fate is not Fate.HELD or sender in self._held:
            self._loop.call_later(self.latency_s(), arrive, context=Context())
            return

        def late() -> None:
            del self._held[sender]
            arrive()

        timer = self._loop.call_later(PATIENCE_S + HELD_S * self._dice.unit(), late, context=Context())
        self._held[sender] = _Held(late, timer, 1 + self._dice.below(OVERTAKEN))

    def _overtake(self, sender: str) -> None:
        """A request of this sender has arrived: perhaps it was the last that its held one waited for."""
        if (held := self._held.get(sender)) is not None:
            held.overtaken -= 1
            if held.overtaken == 0:
                held.timer.cancel()
                held.arrive()


def _answer(action: Action, answer: "asyncio.Future[None] | None") -> None:
    try:
        action()
    except StageRuntimeError as error:
        if answer is not None:
            _fail(answer, error)
        return
    if answer is not None and not answer.done():
        answer.set_result(None)


def _fail(answer: "asyncio.Future[None]", error: StageRuntimeError) -> None:
    if not answer.done():
        answer.set_exception(error)
