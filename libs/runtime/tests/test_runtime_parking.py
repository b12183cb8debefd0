"""Records over which a step of ours fails: the task parks at exactly that record, and a person decides."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from msgspec.structs import replace as replace_struct
from trimtab.runtime import decisions, position
from trimtab.runtime.decisions import Decision, Found
from trimtab.runtime.errors import BusSilentError, FencedError, OutcomeUnknownError, StepRaisedError, TaskUnfitError
from trimtab.runtime.memory import no_fault
from trimtab.runtime.parking import Narrowed, Patience, RecordAt
from trimtab.runtime.records import Out, Read
from trimtab.runtime.stage import Batch, Input, Output, Result, Stage, Tables
from trimtab.runtime.table import TableSpec
from trimtab.runtime.task import TaskStatus
from trimtab.testing import Lab, MemoryLab, Running

PARTITIONS = 2
KIM = Decision("kim", 7, "a defect that nobody can mend today")


@dataclass(frozen=True)
class TaskId:
    """A task of the stage below."""

    group: str
    changelog: str
    partition: int

    def __str__(self) -> str:
        return f"{self.group}-{self.partition}"


@dataclass
class Defect:
    """A step that numbers the records of each key, and cannot bear some of them. `tried`: batches it was given."""

    prefix: str
    poison: set[bytes] = field(default_factory=set)
    tried: Counter[int] = field(default_factory=Counter)

    def __call__(self, partition: int, tables: Tables, batch: Batch) -> Result:
        self.tried[partition] += 1
        table, outs = tables["n"], []
        for record in [one for records in batch.records.values() for one in records]:
            if record.value in self.poison:
                raise KeyError("a defect")
            number = (table.get(record.key) or 0) + 1
            table.put(record.key, number)
            outs.append(Out(self.prefix + "out", record.key, b"%s %d" % (record.value, number), (), partition))
        return Result(outs)

    def stage(self, inputs: Sequence[str] = ("in",)) -> Stage:
        return Stage(
            group=self.prefix + "t.count",
            changelog=self.prefix + "log",
            partitions=PARTITIONS,
            inputs=[Input(self.prefix + name, "none") for name in inputs],
            step=self,
            outputs=[Output(self.prefix + "out", PARTITIONS)],
            tables=[TableSpec("n", bytes, bytes, lambda count: b"%d" % count, int)],
            max_batch=100,
        )

    def task(self, partition: int = 0) -> TaskId:
        return TaskId(self.prefix + "t.count", self.prefix + "log", partition)


async def create(lab: Lab, *more: str) -> None:
    names = [lab.prefix + name for name in ("in", "out", "log", *more)]
    await lab.create(dict.fromkeys(names, PARTITIONS), compacted=[lab.prefix + "log"])


def numbers(topic: str, values: Sequence[int], partition: int) -> list[Out]:
    headers = (("ce_id", b"an id"),)
    return [Out(topic, b"k%d" % (value % 7), b"%d" % value, headers, partition) for value in values]


def state(running: Running, partition: int = 0) -> TaskStatus | None:
    tasks = [task for task in running.workers[0].status().tasks if task.partition == partition]
    return tasks[0] if tasks else None


async def parked(running: Running) -> TaskStatus:
    await running.until(lambda: (one := state(running)) is not None and one.state == "parked")
    found = state(running)
    assert found is not None
    return found


async def out(lab: Lab, partition: int, count: int) -> list[Read]:
    """What came out, once there is so much of it."""
    async with asyncio.timeout(30):
        while True:
            found = [record for record in await lab.read(lab.prefix + "out") if record.partition == partition]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


def assert_counted_once(found: Sequence[Read], values: Sequence[int]) -> None:
    assert [int((record.value or b"").split()[0]) for record in found] == list(values)
    last: Counter[bytes | None] = Counter()
    for record in found:
        last[record.key] += 1
        assert int((record.value or b"").split()[1]) == last[record.key]


@pytest.fixture
async def memory() -> AsyncIterator[MemoryLab]:
    async with MemoryLab() as made:
        yield made


async def poisoned(lab: Lab, *more: str) -> Defect:
    """300 records in each partition, the 138th of the first one is poison."""
    await create(lab, *more)
    source = lab.prefix + "in"
    await lab.append([*numbers(source, range(300), 0), *numbers(source, range(300, 600), 1)])
    return Defect(lab.prefix, {b"137"})


async def test_a_task_parks_at_exactly_the_record_that_its_step_cannot_bear(lab: Lab) -> None:
    defect = await poisoned(lab)
    async with Running([defect.stage()], lab.bus) as running:
        found = await parked(running)
        assert found.positions == {lab.prefix + "in": 137}
        assert (found.tries, found.lag) == (5, 163)
        reason = found.reason or ""
        assert reason.startswith(f"failed 5 times at {lab.prefix}in 137: KeyError: 'a defect'; `trimtab tasks retry ")
        assert f"`trimtab tasks skip {defect.task()} {lab.prefix}in 137`" in reason
        assert_counted_once(await out(lab, 0, 137), range(137))
        assert_counted_once(await out(lab, 1, 300), range(300, 600))
        tried = defect.tried[0]
        await lab.append(numbers(lab.prefix + "in", [600], 0))
        await running.until(lambda: (one := state(running)) is not None and one.lag == 164)
        assert defect.tried[0] == tried


async def test_after_the_fix_a_retry_goes_on_with_everything_once(lab: Lab) -> None:
    defect = await poisoned(lab)
    async with Running([defect.stage()], lab.bus) as running:
        await parked(running)
        defect.poison.clear()
        await decisions.retry(lab.bus, defect.task())
        assert_counted_once(await out(lab, 0, 300), range(300))
        await running.until(lambda: (one := state(running)) is not None and (one.state, one.tries) == ("running", 0))


async def test_a_skip_passes_over_one_record_and_keeps_it(lab: Lab) -> None:
    defect = await poisoned(lab)
    source = lab.prefix + "in"
    async with Running([defect.stage()], lab.bus) as running:
        await parked(running)
        for wrong in (RecordAt(source, 138), RecordAt(lab.prefix + "log", 137)):
            with pytest.raises(TaskUnfitError, match=rf"did not give up over {wrong.topic} {wrong.offset}: failed 5"):
                await decisions.skip(lab.bus, defect.task(), wrong, KIM)
        kept = await decisions.skip(lab.bus, defect.task(), RecordAt(source, 137), KIM)
        assert_counted_once(await out(lab, 0, 299), [value for value in range(300) if value != 137])
        with pytest.raises(TaskUnfitError, match="is not parked"):
            await decisions.skip(lab.bus, defect.task(), RecordAt(source, 137), KIM)
    assert (kept.by, kept.at_ms, kept.why, kept.topic, kept.offset) == ("kim", 7, KIM.why, source, 137)
    assert (kept.key, kept.value, kept.headers) == (b"k4", b"137", (("ce_id", b"an id"),))
    async with decisions.reading(lab.bus, defect.task()) as changelog:
        assert (await changelog.found()).skipped == [kept]


async def test_a_person_parks_a_task_that_runs_and_lets_it_go_on(lab: Lab) -> None:
    defect = await poisoned(lab)
    defect.poison.clear()
    async with Running([defect.stage()], lab.bus) as running:
        await out(lab, 0, 300)
        await decisions.park(lab.bus, defect.task(), KIM)
        with pytest.raises(TaskUnfitError, match="is parked already"):
            await decisions.park(lab.bus, defect.task(), KIM)
        await lab.append(numbers(lab.prefix + "in", range(600, 700), 0))
        found = await parked(running)
        assert (found.reason or "").startswith(f"parked by kim: {KIM.why}; `trimtab tasks retry {defect.task()}`")
        assert len(await out(lab, 0, 300)) == 300
        await decisions.retry(lab.bus, defect.task())
        assert_counted_once(await out(lab, 0, 400), [*range(300), *range(600, 700)])


async def test_a_parked_task_is_parked_wherever_it_opens_next(lab: Lab) -> None:
    defect = await poisoned(lab)
    async with Running([defect.stage()], lab.bus) as running:
        before = await parked(running)
        await running.kill()
    tried = defect.tried[0]
    async with Running([defect.stage()], lab.bus) as running:
        after = await parked(running)
        assert (after.reason, after.positions, after.tries) == (before.reason, before.positions, before.tries)
        assert (after.restarts, after.lag, defect.tried[0]) == (0, 163, tried)


async def test_a_refused_task_goes_on_when_a_person_has_moved_it(lab: Lab) -> None:
    defect = await poisoned(lab)
    defect.poison.clear()
    source = lab.prefix + "in"

    def placed(offset: int) -> Callable[[Found], Awaitable[Sequence[Out]]]:
        async def change(found: Found) -> Sequence[Out]:
            known = (await lab.bus.catalog.describe([source]))[source]
            moved = replace_struct(found.position, offsets={source: offset}, topic_ids={source: known.id})
            return [Out(lab.prefix + "log", position.KEY, position.encode(moved))]

        return change

    await decisions.write(lab.bus, defect.task(), placed(10_000))
    async with Running([defect.stage()], lab.bus) as running:
        await running.until(lambda: (one := state(running)) is not None and one.state == "stopped")
        await decisions.write(lab.bus, defect.task(), placed(100))
        assert_counted_once(await out(lab, 0, 200), range(100, 300))


@pytest.mark.parametrize("point", ["commit", "committed"])
async def test_a_kill_right_after_a_skip_neither_loses_nor_repeats(memory: MemoryLab, point: str) -> None:
    """The owner dies at its first transaction behind the record, before or after that took effect."""
    defect = await poisoned(memory)
    async with Running([defect.stage()], memory.bus) as running:
        await parked(running)
        await running.kill()
    await decisions.skip(memory.bus, defect.task(), RecordAt(memory.prefix + "in", 137), KIM)
    async with Running([defect.stage()], memory.bus) as running:
        died = asyncio.Event()

        def fault(at: str, transactional_id: str) -> None:
            if at == point and transactional_id == str(defect.task()):
                died.set()
                raise OutcomeUnknownError(transactional_id, at)

        memory.bus.fault = fault
        await died.wait()
        await running.kill()
    memory.bus.fault = no_fault
    async with Running([defect.stage()], memory.bus):
        assert_counted_once(await out(memory, 0, 299), [value for value in range(300) if value != 137])


async def test_a_skip_that_fails_leaves_the_task_parked(memory: MemoryLab) -> None:
    defect = await poisoned(memory)
    async with Running([defect.stage()], memory.bus) as running:
        await parked(running)

        def fault(point: str, transactional_id: str) -> None:
            if point == "commit":
                raise OutcomeUnknownError(transactional_id, point)

        memory.bus.fault = fault
        with pytest.raises(OutcomeUnknownError):
            await decisions.skip(memory.bus, defect.task(), RecordAt(memory.prefix + "in", 137), KIM)
        memory.bus.fault = no_fault
        async with decisions.reading(memory.bus, defect.task()) as changelog:
            found = await changelog.found()
        assert found.parked is not None
        assert (found.skipped, found.position.offsets) == ((), {memory.prefix + "in": 137})
        assert (await parked(running)).positions == {memory.prefix + "in": 137}


async def test_what_the_log_does_to_a_task_never_parks_it(memory: MemoryLab) -> None:
    defect = await poisoned(memory)
    defect.poison.clear()
    failures = 0

    def fault(point: str, transactional_id: str) -> None:
        nonlocal failures
        if failures < 30:
            failures += 1
            kinds = OutcomeUnknownError(transactional_id, point), BusSilentError(point, 1.0), FencedError(point)
            raise kinds[failures % 3]

    memory.bus.fault = fault
    async with Running([defect.stage()], memory.bus) as running:
        assert_counted_once(await out(memory, 0, 300), range(300))
        assert_counted_once(await out(memory, 1, 300), range(300, 600))
        tasks = running.workers[0].status().tasks
        assert sum(task.restarts for task in tasks) == 30
        assert {(task.state, task.tries) for task in tasks} == {("running", 0)}


async def test_the_record_is_found_among_those_of_several_inputs(memory: MemoryLab) -> None:
    defect = await poisoned(memory, "other")
    await memory.append(numbers(memory.prefix + "other", range(1_000, 1_200), 0))
    defect.poison = {b"1137"}
    async with Running([defect.stage(["in", "other"])], memory.bus) as running:
        found = await parked(running)
        assert found.positions[memory.prefix + "other"] == 137
        assert f"at {memory.prefix}other 137: KeyError" in (found.reason or "")
        await decisions.skip(memory.bus, defect.task(), RecordAt(memory.prefix + "other", 137), KIM)
        values = sorted(int((one.value or b"").split()[0]) for one in await out(memory, 0, 499))
        assert values == [*range(300), *(value for value in range(1_000, 1_200) if value != 1_137)]


async def test_an_input_that_flows_on_does_not_hide_the_one_that_fails(memory: MemoryLab) -> None:
    defect = await poisoned(memory, "other")

    async def flow() -> None:
        for value in itertools.count(1_000):
            await memory.append(numbers(memory.prefix + "other", [value], 0))
            await asyncio.sleep(0.005)

    async with Running([defect.stage(["in", "other"])], memory.bus) as running:
        flowing = asyncio.create_task(flow())
        found = await parked(running)
        flowing.cancel()
        assert found.positions[memory.prefix + "in"] == 137
        assert f"at {memory.prefix}in 137: KeyError" in (found.reason or "")


async def test_a_defect_that_time_alone_brings_up_names_no_record(memory: MemoryLab) -> None:
    defect = await poisoned(memory)
    source = memory.prefix + "in"

    def step(partition: int, tables: Tables, batch: Batch) -> Result:
        if batch.progress_ms >= 500:
            raise ZeroDivisionError("no rows in this window")
        newest = max((int(one.value or b"") for one in batch.records.get(source, ())), default=None)
        return Result((), {} if newest is None else {source: newest})

    stage = replace(defect.stage(), step=step, inputs=[Input(source, "reported")], partitions=PARTITIONS)
    async with Running([stage], memory.bus) as running:
        await running.until(lambda: (one := state(running, 1)) is not None and one.state == "parked")
        found = state(running, 1)
        assert found is not None
        told = "failed 5 times, over no single record: ZeroDivisionError: no rows in this window; `trimtab tasks retry"
        assert (found.reason or "").startswith(told)
        at = RecordAt(source, found.positions[source])
        with pytest.raises(TaskUnfitError, match="did not give up over"):
            await decisions.skip(memory.bus, defect.task(1), at, KIM)


async def test_a_table_that_cannot_be_read_parks_its_task_for_good(memory: MemoryLab) -> None:
    defect, broken = await poisoned(memory), True
    defect.poison.clear()

    def decode(value: bytes) -> int:
        if broken:
            raise ValueError("cannot read this entry")
        return int(value)

    stage = replace(defect.stage(), tables=[TableSpec("n", bytes, bytes, lambda count: b"%d" % count, decode)])
    async with Running([stage], memory.bus):
        await out(memory, 0, 300)
    for _ in range(2):
        async with Running([stage], memory.bus) as running:
            assert "ValueError: cannot read this entry" in ((await parked(running)).reason or "")
    broken = False
    await memory.append(numbers(memory.prefix + "in", [600], 0))
    async with Running([stage], memory.bus) as running:
        await parked(running)
        await decisions.retry(memory.bus, defect.task())
        assert_counted_once(await out(memory, 0, 301), [*range(300), 600])


def test_patience_ends_at_one_cause_and_begins_anew_with_any_progress() -> None:
    patience, told = Patience(3), ValueError("x")
    patience.opened({"in": 4})
    for _ in range(5):
        patience.failed(StepRaisedError(told, {"in": (4, 83)}, 80, alone=False))
    assert patience.narrowed == Narrowed(10, {"in": 83})
    assert patience.verdict({"in": 4}, 0) is None
    patience.failed(StepRaisedError(told, {"in": (4, 4)}, 1, alone=True))
    verdict = patience.verdict({"in": 4}, 0)
    assert verdict is not None
    assert (verdict.record, verdict.tries, verdict.reason) == (RecordAt("in", 4), 6, "ValueError: x")
    patience.opened({"in": 4, "other": 1})
    assert patience.tries == 6
    patience.opened({"in": 5, "other": 1})
    assert (patience.tries, patience.verdict({"in": 5}, 0)) == (0, None)
    assert patience.narrowed.covers({"in": 83})
    assert not patience.narrowed.covers({"in": 84})
