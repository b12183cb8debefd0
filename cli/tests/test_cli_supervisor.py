"""The supervisor's rules, on processes that end when told and a clock that is moved by hand."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimtab.cli.cluster.backoff import Backoff
from trimtab.cli.cluster.programs import Program
from trimtab.cli.cluster.state import ProcessState
from trimtab.cli.cluster.supervisor import PROBE_READY_S, STOP_S, Supervisor
from trimtab.cli.processes import Identity


class VirtualClock:
    """Time passes only by `advance`; sleepers wake in the order of their times."""

    def __init__(self) -> None:
        self._now_s = 1_000.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def now_s(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self._now_s + seconds, woken))
        await woken.wait()

    async def advance(self, seconds: float) -> None:
        end_s = self._now_s + seconds
        await settle()
        while due := [entry for entry in self._sleepers if entry[0] <= end_s + 1e-9]:
            first = min(due, key=lambda entry: entry[0])
            self._sleepers.remove(first)
            self._now_s = max(self._now_s, first[0])
            first[1].set()
            await settle()
        self._now_s = end_s


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@dataclass
class FakeChild:
    who: Identity
    stubborn: bool = False
    code: int | None = None
    signals: list[str] = field(default_factory=list)

    def ended(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.signals.append("term")
        if not self.stubborn:
            self.code = 0

    def kill(self) -> None:
        self.signals.append("kill")
        if self.code is None:
            self.code = -9


class World:
    """Launches fakes and remembers them; a program is ready while its name is in `healthy`."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.children: dict[str, list[FakeChild]] = {}
        self.healthy: set[str] = set()
        self.stubborn = False
        self.seen: list[Sequence[ProcessState]] = []
        self.supervisor = Supervisor(
            launch=self.launch, probe=self.probe, clock=self.clock, on_change=self.seen.append, backoff=Backoff()
        )

    def launch(self, program: Program) -> FakeChild:
        started = self.children.setdefault(program.name, [])
        started.append(FakeChild(Identity(100 + len(started), self.clock.now_s()), self.stubborn))
        return started[-1]

    async def probe(self, program: Program) -> bool:
        return program.name in self.healthy

    def state(self, name: str) -> ProcessState:
        return next(state for state in self.supervisor.states if state.name == name)


def program(name: str) -> Program:
    return Program(name, ("true",), Path("nowhere.log"), port=1)


async def test_a_program_that_ends_is_started_again_after_growing_waits() -> None:
    world = World()
    world.supervisor.start(program("ingest"))
    starts = []
    for _ in range(8):
        await world.clock.advance(0.0)
        child = world.children["ingest"][-1]
        starts.append(child.who.created)
        child.code = 1
        before = len(world.children["ingest"])
        while len(world.children["ingest"]) == before:
            await world.clock.advance(0.1)
    waits = [round(later - earlier, 1) for earlier, later in itertools.pairwise(starts)]
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 30], abs=0.4)
    assert world.state("ingest").restarts == 8
    assert world.state("ingest").exit_code == 1


async def test_after_a_calm_run_it_is_started_again_at_once() -> None:
    world = World()
    world.supervisor.start(program("ingest"))
    for _ in range(4):
        await world.clock.advance(0.0)
        world.children["ingest"][-1].code = 1
        await world.clock.advance(6.0)
    world.healthy.add("ingest")
    await world.clock.advance(15.0)
    world.children["ingest"][-1].code = 1
    count = len(world.children["ingest"])
    await world.clock.advance(0.2)
    assert len(world.children["ingest"]) == count + 1


async def test_a_probe_that_meets_the_end_of_a_calm_run_does_not_make_a_crash_at_the_start_of_it() -> None:
    world = World()
    world.healthy.add("ingest")
    world.supervisor.start(program("ingest"))
    await world.clock.advance(PROBE_READY_S - 0.05)
    world.healthy.clear()
    await world.clock.advance(PROBE_READY_S)
    assert world.state("ingest").phase == "not ready"
    world.children["ingest"][-1].code = -9
    await world.clock.advance(0.2)
    assert len(world.children["ingest"]) == 2


async def test_ready_and_no_longer_ready_are_told() -> None:
    world = World()
    kafka = program("kafka")
    world.supervisor.start(kafka)
    waiting = asyncio.create_task(world.supervisor.until_ready(kafka))
    await world.clock.advance(5.0)
    assert world.state("kafka").phase == "starting"
    assert not waiting.done()
    world.healthy.add("kafka")
    await world.clock.advance(1.0)
    assert world.state("kafka").phase == "ready"
    assert waiting.done()
    world.healthy.clear()
    await world.clock.advance(3.0)
    assert world.state("kafka").phase == "not ready"


async def test_stopping_asks_first_and_kills_what_does_not_listen() -> None:
    world = World()
    world.supervisor.start(program("polite"))
    await world.clock.advance(0.5)
    world.stubborn = True
    world.supervisor.start(program("deaf"))
    await world.clock.advance(0.5)
    stopping = asyncio.create_task(world.supervisor.stop([program("polite"), program("deaf")]))
    await world.clock.advance(1.0)
    assert world.state("polite").phase == "stopped"
    assert world.children["deaf"][0].signals == ["term"]
    await world.clock.advance(STOP_S)
    assert world.children["deaf"][0].signals == ["term", "kill"]
    assert stopping.done()
    await world.clock.advance(60.0)
    assert len(world.children["polite"]) == len(world.children["deaf"]) == 1


async def test_a_program_that_cannot_be_started_at_all_ends_the_supervision() -> None:
    world = World()

    def launch(_: Program) -> FakeChild:
        raise FileNotFoundError("no such program")

    supervisor = Supervisor(
        launch=launch, probe=world.probe, clock=world.clock, on_change=world.seen.append, backoff=Backoff()
    )
    supervisor.start(program("gone"))
    with pytest.raises(FileNotFoundError):
        await supervisor.failed()


@given(st.lists(st.floats(0, 200), min_size=1, max_size=80))
def test_waits_begin_after_a_calm_run_and_stay_below_the_longest(runs: list[float]) -> None:
    backoff = Backoff()
    crashes = 0
    for ready_s in runs:
        crashes = backoff.crashes(crashes, ready_s)
        assert backoff.delay_s(crashes) <= backoff.longest_s
        assert (crashes == 0) == (ready_s >= backoff.calm_s) == (backoff.delay_s(crashes) == 0)
