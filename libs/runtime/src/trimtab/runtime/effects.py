"""Work outside of steps: started by results, answered in later batches, cancelled with its task."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from trimtab.runtime.stage import Effect, EffectDone


class Effects:
    """The running effects of one task. Mutable: the task alone owns it. `wake` is called when one has ended."""

    def __init__(self, perform: Callable[[Effect], Awaitable[Any]], wake: Callable[[], None]) -> None:
        self._perform, self._wake = perform, wake
        self._running: dict[str, asyncio.Task[None]] = {}
        self._done: list[EffectDone] = []

    def start(self, effects: Sequence[Effect]) -> None:
        """Start those that do not run already."""
        for effect in effects:
            if effect.id not in self._running:
                self._running[effect.id] = asyncio.create_task(self._run(effect), name=f"effect {effect.id}")

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._running)

    @property
    def ended(self) -> bool:
        """Whether answers wait."""
        return bool(self._done)

    def take(self) -> Sequence[EffectDone]:
        """The answers since the last call."""
        done, self._done = self._done, []
        return done

    async def close(self) -> None:
        """Cancel what runs, and wait until it has stopped."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()
        self._done.clear()

    async def _run(self, effect: Effect) -> None:
        try:
            done = EffectDone(effect.id, value=await self._perform(effect))
        except Exception as error:  # noqa: BLE001 the step decides what a failed effect means
            done = EffectDone(effect.id, error=error)
        self._running.pop(effect.id, None)
        self._done.append(done)
        self._wake()
