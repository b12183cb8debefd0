"""The bus suite: written once, run on the bus in memory and on Kafka."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Literal

import pytest
from trimtab.contracts import envelope, times
from trimtab.runtime import marks, position, session
from trimtab.runtime.bus import Declared, Part, TopicInfo
from trimtab.runtime.errors import FencedError
from trimtab.runtime.marks import Mark
from trimtab.runtime.records import Out, Read
from trimtab.runtime.stage import (
    UNKNOWN_MS,
    Batch,
    Effect,
    Input,
    Output,
    Result,
    Stage,
    Tables,
)
from trimtab.runtime.table import TableSpec
from trimtab.testing import QUICK, Lab, Running, read_all

PARTITIONS = 2
NOW_MS = 1_800_000_000_000


def counts(name: str = "n", topic: str | None = None) -> TableSpec[bytes, int]:
    return TableSpec(name, bytes, bytes, lambda count: b"%d" % count, int, topic)


def counting(lab: Lab, *, table_topic: str | None = None) -> Stage:
    """Numbers the records of each key; a value is its event time in ms."""
    source, target = lab.prefix + "in", lab.prefix + "out"

    def step(_partition: int, tables: Tables, batch: Batch) -> Result:
        table, outs = tables["n"], []
        for record in batch.records.get(source, ()):
            number = (table.get(record.key) or 0) + 1
            table.put(record.key, number)
            outs.append(Out(target, record.key, b"%s %d" % (record.value, number), record.headers))
        newest = [int(record.value or b"0") for record in batch.records.get(source, ())]
        return Result(outs, {source: max(newest)} if newest else {})

    outputs = [Output(target, PARTITIONS)] + ([Output(table_topic, PARTITIONS)] if table_topic else [])
    return Stage(
        group=lab.prefix + "t.count",
        changelog=lab.prefix + "t-count.changelog",
        partitions=PARTITIONS,
        inputs=[Input(source, "reported")],
        step=step,
        outputs=outputs,
        tables=[counts(topic=table_topic)],
    )


class Seeing:
    """A stage that remembers what its step was shown."""

    def __init__(self, lab: Lab, topic: str, writers: dict[str, int]) -> None:
        self.batches: list[tuple[int, int, list[bytes]]] = []
        self.topic = lab.prefix + topic
        self.stage = Stage(
            group=lab.prefix + "t.see",
            changelog=lab.prefix + "t-see.changelog",
            partitions=PARTITIONS,
            inputs=[Input(self.topic, "marks", MappingProxyType(writers))],
            step=self.step,
        )

    def step(self, partition: int, _tables: Tables, batch: Batch) -> Result:
        values = [record.value or b"" for record in batch.records.get(self.topic, ())]
        self.batches.append((partition, batch.progress_ms, values))
        return Result()

    @property
    def seen(self) -> list[bytes]:
        """Each value once: a batch whose commit failed is shown again."""
        return list(dict.fromkeys(value for _, _, values in self.batches for value in values))

    @property
    def progress_ms(self) -> int:
        return min(
            max((ms for number, ms, _ in self.batches if number == one), default=UNKNOWN_MS)
            for one in range(PARTITIONS)
        )


def numbers(topic: str, values: Sequence[int], keys: int = 7) -> list[Out]:
    return [Out(topic, b"k%d" % (value % keys), b"%d" % value) for value in values]


def ruling(topic: str, at_ms: int | None) -> list[Out]:
    """A replay's marks: so far it is."""
    mark = Mark("replay", at_ms)
    return [Out(topic, marks.key_of("replay"), None, marks.headers_of(mark), number) for number in range(PARTITIONS)]


def idle(topic: str) -> list[Out]:
    """A replay's last marks: nothing more comes."""
    return ruling(topic, None)


async def create(lab: Lab, *stages: Stage, **more: int) -> None:
    topics = {stage.changelog: stage.partitions for stage in stages}
    topics |= {source.topic: stage.partitions for stage in stages for source in stage.inputs}
    topics |= {output.topic: output.partitions for stage in stages for output in stage.outputs}
    topics |= {lab.prefix + name: count for name, count in more.items()}
    await lab.create(topics, compacted=[stage.changelog for stage in stages])


async def all_out(lab: Lab, count: int) -> list[tuple[bytes | None, bytes]]:
    found = await lab.read(lab.prefix + "out")
    while len(found) < count:
        await asyncio.sleep(0.02)
        found = await lab.read(lab.prefix + "out")
    return [(record.key, record.value or b"") for record in found]


def assert_counted_once(found: list[tuple[bytes | None, bytes]], expected: int) -> None:
    """Every input came out once, and each key's numbers are 1, 2, 3, ... in order."""
    assert len(found) == len({value.split()[0] for _, value in found}) == expected
    last: Counter[bytes | None] = Counter()
    for key, value in found:
        last[key] += 1
        assert int(value.split()[1]) == last[key]


async def test_what_goes_in_comes_out_once_also_over_a_restart(lab: Lab) -> None:
    stage = counting(lab)
    await create(lab, stage)
    await lab.append(numbers(lab.prefix + "in", range(500)))
    async with Running([stage], lab.bus):
        await all_out(lab, 500)
    await lab.append(numbers(lab.prefix + "in", range(500, 800)))
    async with Running([stage], lab.bus):
        assert_counted_once(await all_out(lab, 800), 800)


async def test_what_waits_in_the_log_is_in_the_first_transaction(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one before it would hold it up; a partition in which nothing waits does not wait for anything either."""
    monkeypatch.setattr(session, "FIRST_S", 60.0)
    stage, before = counting(lab), list[int]()

    def step(partition: int, tables: Tables, batch: Batch) -> Result:
        [worker] = running.workers
        before.extend(task.transactions for task in worker.status().tasks if task.partition == partition)
        return stage.step(partition, tables, batch)

    await create(lab, stage)
    await lab.append([Out(lab.prefix + "in", b"k", b"1")])
    async with Running([replace(stage, step=step)], lab.bus) as running:
        await all_out(lab, 1)
        await running.until(running.settled)
    assert before[0] == 0


async def test_a_table_with_a_topic_of_its_own_is_restored_from_there(lab: Lab) -> None:
    stage = counting(lab, table_topic=lab.prefix + "online")
    await create(lab, stage)
    for upto in (100, 200):
        await lab.append([*numbers(lab.prefix + "in", range(upto - 100, upto)), *idle(lab.prefix + "in")])
        async with Running([stage], lab.bus) as running:
            assert_counted_once(await all_out(lab, upto), upto)
            await running.until(running.settled)
    newest = {record.key: record.value for record in await lab.read(lab.prefix + "online")}
    assert sum(int(value or b"0") for value in newest.values()) == 200
    assert all(
        marks.is_mark(record) or record.key in newest for record in await read_all(lab.bus, lab.prefix + "online")
    )


async def test_progress_goes_down_the_stages_in_band_and_steps_never_see_marks(lab: Lab) -> None:
    first, second = counting(lab), Seeing(lab, "out", {lab.prefix + "t.count": PARTITIONS})
    await create(lab, first, second.stage)
    await lab.append([*numbers(lab.prefix + "in", range(100)), *idle(lab.prefix + "in")])
    async with Running([first, second.stage], lab.bus) as running:
        await running.until(lambda: len(second.seen) == 100 and second.progress_ms == 99)
        await running.until(running.settled)
    assert all(b" " in value for value in second.seen)
    for one in range(PARTITIONS):
        times_ms = [ms for number, ms, _ in second.batches if number == one]
        assert times_ms == sorted(times_ms)


async def test_who_is_idle_and_idle_again_has_said_how_far_it_came_in_between(lab: Lab) -> None:
    first, second = counting(lab), Seeing(lab, "out", {lab.prefix + "t.count": PARTITIONS})
    await create(lab, first, second.stage)
    await lab.append([*numbers(lab.prefix + "in", range(100)), *idle(lab.prefix + "in")])
    async with Running([first, second.stage], lab.bus) as running:
        await running.until(lambda: len(second.seen) == 100)
        await running.until(running.settled)
        await lab.append([*ruling(lab.prefix + "in", 500), *idle(lab.prefix + "in")])
        await running.until(lambda: second.progress_ms == 500)


@pytest.mark.parametrize(("now_ms", "at_once"), [(300, False), (NOW_MS, True)], ids=["live", "replay"])
async def test_a_live_task_says_how_far_it_has_come_no_more_often_than_it_may(
    lab: Lab, now_ms: int, at_once: bool
) -> None:
    stage, said = counting(lab), lab.prefix + "out"
    await create(lab, stage)
    rarely = replace(QUICK, marks_rest_s=3_600.0)
    async with Running([stage], lab.bus, now_ms=lambda: now_ms, options=rarely) as running:
        for upto in (100, 200, 300):
            await lab.append([*ruling(lab.prefix + "in", upto), *numbers(lab.prefix + "in", range(upto - 100, upto))])
            await all_out(lab, upto)
        await running.until(lambda: all(task.progress_ms == 300 for task in running.workers[0].status().tasks))
        before = [record for record in await read_all(lab.bus, said) if marks.is_mark(record)]
    after = [mark for record in await read_all(lab.bus, said) if (mark := marks.read(record)) is not None]
    assert (len(before) > PARTITIONS * PARTITIONS) == at_once
    assert [mark.ms for mark in after[-PARTITIONS:]] == [300] * PARTITIONS


def _reached(seeing: Seeing, at_ms: int) -> bool:
    return seeing.progress_ms == at_ms


async def test_the_beginning_of_a_grain_that_is_awaited_ends_every_rest(lab: Lab) -> None:
    first, second = counting(lab), Seeing(lab, "out", {lab.prefix + "t.count": PARTITIONS})
    stages = [replace(one, live_interval_ms=3_600_000, awaited_grain_ms=100) for one in (first, second.stage)]
    await create(lab, *stages)
    rarely = replace(QUICK, marks_rest_s=3_600.0)
    async with Running(stages, lab.bus, now_ms=lambda: 300, options=rarely) as running:
        for upto in (100, 200, 300):
            await lab.append([*numbers(lab.prefix + "in", range(upto - 100, upto)), *ruling(lab.prefix + "in", upto)])
            await running.until(partial(_reached, second, upto))
        await lab.append(ruling(lab.prefix + "in", 350))
        await asyncio.sleep(0.5)
        assert second.progress_ms == 300


async def test_an_input_is_idle_a_second_after_its_end_and_holds_nobody_back(lab: Lab) -> None:
    first, second = counting(lab), Seeing(lab, "out", {lab.prefix + "t.count": PARTITIONS})
    await create(lab, first, second.stage)
    one_partition_only = [Out(lab.prefix + "in", b"k", b"41", (), 0), Out(lab.prefix + "in", b"k", b"42", (), 0)]
    await lab.append(one_partition_only)
    async with Running([first, second.stage], lab.bus) as running:
        await running.until(lambda: len(second.seen) == 2 and second.progress_ms == 42, timeout_s=10)


async def test_an_input_that_goes_by_the_wall_takes_the_time_of_all_along_while_nothing_comes(lab: Lab) -> None:
    first, second = counting(lab), Seeing(lab, "out", {lab.prefix + "t.count": PARTITIONS})
    by_the_wall = replace(first, inputs=[replace(one, wall_reach_ms=2**60) for one in first.inputs])
    await create(lab, by_the_wall, second.stage)
    await lab.append([Out(lab.prefix + "in", b"k", b"42", (), number) for number in range(PARTITIONS)])
    async with Running([by_the_wall, second.stage], lab.bus) as running:
        await running.until(lambda: len(second.seen) == 1 and second.progress_ms > 42, timeout_s=10)


async def test_a_replay_rules_the_clock_of_its_topic(lab: Lab) -> None:
    first, second = counting(lab), Seeing(lab, "out", {lab.prefix + "t.count": PARTITIONS})
    await create(lab, first, second.stage)
    at_50 = ruling(lab.prefix + "in", 50)
    await lab.append([*at_50, *numbers(lab.prefix + "in", range(40, 60)), *at_50])
    async with Running([first, second.stage], lab.bus) as running:
        await running.until(lambda: len(second.seen) == 20 and second.progress_ms == 50)
        await asyncio.sleep(1.3)
        assert second.progress_ms == 50
        await lab.append(idle(lab.prefix + "in"))
        await running.until(running.settled)


async def test_a_stage_that_holds_records_in_its_tables_does_not_claim_their_time(lab: Lab) -> None:
    first = counting(lab)
    plain = first.step
    held_back = replace(first, step=lambda *args: replace(plain(*args), progress_ms=30))
    second = Seeing(lab, "out", {lab.prefix + "t.count": PARTITIONS})
    await create(lab, held_back, second.stage)
    await lab.append([*numbers(lab.prefix + "in", range(100)), *idle(lab.prefix + "in")])
    async with Running([held_back, second.stage], lab.bus) as running:
        await running.until(lambda: len(second.seen) == 100 and second.progress_ms == 30)
        await asyncio.sleep(0.3)
        assert second.progress_ms == 30
    async with Running([held_back, second.stage], lab.bus) as running:
        await running.until(
            lambda: all(task.state == "running" for one in running.workers for task in one.status().tasks)
        )
        await asyncio.sleep(0.3)
        assert second.progress_ms == 30


async def test_a_step_that_died_at_a_time_is_called_at_that_time_again(lab: Lab) -> None:
    """The clock's new time stands in the log already: nothing more would come that brings it about."""
    stage, deaths = counting(lab), 0

    def step(partition: int, tables: Tables, batch: Batch) -> Result:
        nonlocal deaths
        if batch.records or batch.progress_ms < 99:
            return stage.step(partition, tables, batch)
        deaths += 1
        if deaths == 1:
            raise KeyError("killed here")
        return Result([Out(lab.prefix + "out", b"k", b"the window is closed")])

    await create(lab, stage)
    await lab.append(numbers(lab.prefix + "in", range(100)))
    async with Running([replace(stage, step=step)], lab.bus):
        found = await all_out(lab, 101)
    assert (b"k", b"the window is closed") in found


class Newest:
    """A view: the newest value of each key."""

    clock: Literal["marks", "none"] = "marks"

    def __init__(self, topic: str, writers: dict[str, int]) -> None:
        self.topic, self.writers = topic, writers
        self.values: dict[bytes | None, bytes | None] = {}

    def apply(self, records: Sequence[Read]) -> None:
        for record in records:
            assert not marks.is_mark(record)
            self.values[record.key] = record.value


def dated(topic: str, key: bytes, at_ms: int, partition: int | None = None) -> Out:
    headers = envelope.headers(key.decode(), "e", "test", at_ms)
    return Out(topic, key, b"%d" % at_ms, headers, partition)


def asking(lab: Lab, view: Newest, *, max_wait_ms: int = 100) -> tuple[Stage, list[tuple[bytes | None, int]]]:
    """A stage gated by a view; remembers key and number of view entries of each ask."""
    asked: list[tuple[bytes | None, int]] = []

    def step(_partition: int, _tables: Tables, batch: Batch) -> Result:
        asked.extend((record.key, len(view.values)) for records in batch.records.values() for record in records)
        return Result()

    stage = Stage(
        group=lab.prefix + "t.ask",
        changelog=lab.prefix + "t-ask.changelog",
        partitions=1,
        inputs=[Input(lab.prefix + "asks", "none")],
        step=step,
        views=[view],
        gate=[view.topic],
        max_wait_ms=max_wait_ms,
    )
    return stage, asked


def said(topic: str, ms: int | None, partitions: int = PARTITIONS) -> list[Out]:
    mark = Mark("w-0", ms)
    return [Out(topic, marks.key_of("w-0"), None, marks.headers_of(mark), number) for number in range(partitions)]


async def test_a_gate_holds_records_until_the_views_have_passed_their_time(lab: Lab) -> None:
    view = Newest(lab.prefix + "view", {"w": 1})
    stage, asked = asking(lab, view)
    await create(lab, stage, view=PARTITIONS)
    asks = lab.prefix + "asks"
    await lab.append([dated(view.topic, b"v0", 5), *said(view.topic, 10)])
    await lab.append([dated(asks, b"a5", 5), dated(asks, b"a10", 10), dated(asks, b"a11", 11), dated(asks, b"a3", 3)])
    async with Running([stage], lab.bus, now_ms=lambda: NOW_MS) as running:
        await running.until(lambda: len(asked) == 2)
        await asyncio.sleep(0.3)
        assert asked == [(b"a5", 1), (b"a10", 1)]
        assert running.workers[0].status().tasks[0].positions[asks] == 2
        await lab.append([dated(view.topic, b"v1", 11), *said(view.topic, 11)])
        await running.until(lambda: len(asked) == 4)
    assert asked[2:] == [(b"a11", 2), (b"a3", 2)]


class Told(Newest):
    """A view that is told of its clock: how far, and how many entries it had by then."""

    def __init__(self, topic: str, writers: dict[str, int]) -> None:
        super().__init__(topic, writers)
        self.told: list[tuple[int, int]] = []

    def reached(self, at_ms: int) -> None:
        self.told.append((at_ms, len(self.values)))


async def test_a_view_hears_how_far_its_writers_have_come_after_what_came_before(lab: Lab) -> None:
    view = Told(lab.prefix + "view", {"w": 1})
    stage, _ = asking(lab, view)
    await create(lab, stage, view=PARTITIONS)
    await lab.append([dated(view.topic, b"v0", 5, 0), *said(view.topic, 10)])
    async with Running([stage], lab.bus, now_ms=lambda: NOW_MS) as running:
        await running.until(lambda: (10, 1) in view.told)
        await lab.append([dated(view.topic, b"v1", 15, 0), *said(view.topic, 20)])
        await running.until(lambda: (20, 2) in view.told)
    assert [at_ms for at_ms, entries in view.told if at_ms >= 20 and entries < 2] == []


async def test_what_a_gate_held_back_is_offered_again_after_a_restart(lab: Lab) -> None:
    view = Newest(lab.prefix + "view", {"w": 1})
    stage, asked = asking(lab, view)
    await create(lab, stage, view=PARTITIONS)
    await lab.append(said(view.topic, 10))
    await lab.append([dated(lab.prefix + "asks", b"a5", 5), dated(lab.prefix + "asks", b"a11", 11)])
    async with Running([stage], lab.bus, now_ms=lambda: NOW_MS) as running:
        await running.until(lambda: len(asked) == 1)
        await asyncio.sleep(0.2)
    fresh = Newest(lab.prefix + "view", {"w": 1})
    again = replace(stage, views=[fresh])
    await lab.append(said(view.topic, 12))
    async with Running([again], lab.bus, now_ms=lambda: NOW_MS) as running:
        await running.until(lambda: len(asked) == 2)
    assert [key for key, _ in asked] == [b"a5", b"a11"]


async def test_a_live_record_waits_at_the_gate_no_longer_than_max_wait(lab: Lab) -> None:
    view = Newest(lab.prefix + "view", {"w": 1})
    stage, asked = asking(lab, view, max_wait_ms=300)
    await create(lab, stage, view=PARTITIONS)
    await lab.append(said(view.topic, 10))
    async with Running([stage], lab.bus, now_ms=lambda: NOW_MS) as running:
        await running.until(running.settled)
        started_s = asyncio.get_running_loop().time()
        await lab.append([dated(lab.prefix + "asks", b"live", NOW_MS), dated(lab.prefix + "asks", b"old", 11)])
        await running.until(lambda: len(asked) == 1)
        assert 0.25 < asyncio.get_running_loop().time() - started_s < 3.0
        await asyncio.sleep(0.5)
        assert [key for key, _ in asked] == [b"live"]


async def test_an_idle_view_lets_everything_pass(lab: Lab) -> None:
    view = Newest(lab.prefix + "view", {"w": 1})
    stage, asked = asking(lab, view)
    await create(lab, stage, view=PARTITIONS)
    await lab.append([*said(view.topic, 10), *said(view.topic, None)])
    await lab.append([dated(lab.prefix + "asks", b"a99", 99)])
    async with Running([stage], lab.bus, now_ms=lambda: NOW_MS) as running:
        await running.until(lambda: len(asked) == 1)


async def test_an_effect_is_answered_in_a_later_batch_and_resumed_after_a_restart(lab: Lab) -> None:
    source, gate, started = lab.prefix + "in", asyncio.Event(), list[str]()

    async def perform(effect: Effect) -> str:
        started.append(effect.id)
        await gate.wait()
        return f"{effect.payload} done"

    def step(_partition: int, tables: Tables, batch: Batch) -> Result:
        table = tables["open"]
        for done in batch.done:
            table.remove(done.id.encode())
        outs = [Out(lab.prefix + "out", b"k", f"{done.value}".encode()) for done in batch.done]
        fresh = [record.value or b"" for record in batch.records.get(source, ())]
        for name in fresh:
            table.put(name, 1)
        return Result(outs, effects=[Effect(name.decode(), name.decode()) for name in fresh])

    def resume(_partition: int, tables: Tables) -> list[Effect]:
        return [Effect(name.decode(), name.decode()) for name, _ in tables["open"].items()]

    stage = Stage(
        group=lab.prefix + "t.fit",
        changelog=lab.prefix + "t-fit.changelog",
        partitions=1,
        inputs=[Input(source, "none")],
        outputs=[Output(lab.prefix + "out", 1, marks=False)],
        step=step,
        tables=[counts("open")],
        perform=perform,
        resume=resume,
    )
    await create(lab, stage)
    await lab.append([Out(source, b"k", b"fit-1"), Out(source, b"k", b"fit-1")])
    async with Running([stage], lab.bus) as running:
        await running.until(lambda: started == ["fit-1"])
    async with Running([stage], lab.bus) as running:
        await running.until(lambda: started == ["fit-1", "fit-1"])
        gate.set()
        assert await all_out(lab, 1) == [(b"k", b"fit-1 done")]
    async with Running([stage], lab.bus) as running:
        await running.until(running.settled)
        await asyncio.sleep(0.1)
    assert started == ["fit-1", "fit-1"]


async def test_a_failed_effect_brings_its_error_to_the_step(lab: Lab) -> None:
    errors: list[BaseException | None] = []

    async def perform(_: Effect) -> None:
        raise ValueError("no rows")

    def step(_partition: int, _tables: Tables, batch: Batch) -> Result:
        errors.extend(done.error for done in batch.done)
        return Result(effects=[Effect("one", None)] if batch.records else [])

    stage = Stage(
        lab.prefix + "t.fit", lab.prefix + "log", 1, [Input(lab.prefix + "in", "none")], step, perform=perform
    )
    await create(lab, stage)
    await lab.append([Out(lab.prefix + "in", b"k", b"go")])
    async with Running([stage], lab.bus) as running:
        await running.until(lambda: len(errors) == 1)
    assert isinstance(errors[0], ValueError)


async def test_a_step_that_crashes_commits_nothing_and_is_run_again(lab: Lab) -> None:
    stage = counting(lab)
    plain, crashes = stage.step, Counter[int]()

    def step(partition: int, tables: Tables, batch: Batch) -> Result:
        result = plain(partition, tables, batch)
        if batch.records and partition == 0 and crashes[partition] < 2:
            crashes[partition] += 1
            raise KeyError("a defect")
        return result

    await create(lab, stage)
    await lab.append(numbers(lab.prefix + "in", range(300)))
    async with Running([replace(stage, step=step)], lab.bus) as running:
        assert_counted_once(await all_out(lab, 300), 300)
        tasks = {task.partition: task for task in running.workers[0].status().tasks}
        assert tasks[0].restarts >= 2 > tasks[1].restarts


async def test_an_output_that_was_not_declared_is_refused(lab: Lab) -> None:
    def step(_partition: int, _tables: Tables, batch: Batch) -> Result:
        return Result([Out("elsewhere", b"k", b"v")] if batch.records else [])

    stage = Stage(lab.prefix + "t.x", lab.prefix + "log", 1, [Input(lab.prefix + "in", "none")], step)
    await create(lab, stage)
    await lab.append([Out(lab.prefix + "in", b"k", b"v")])
    async with Running([stage], lab.bus) as running:
        await running.until(lambda: "not among the stage's outputs" in str(running.workers[0].status()))


async def test_two_workers_share_the_tasks_and_hand_them_over(lab: Lab) -> None:
    stage = counting(lab)
    await create(lab, stage)
    async with Running([stage], lab.bus) as first:
        await first.until(lambda: len(first.workers[0].status().tasks) == 2)
        await lab.append(numbers(lab.prefix + "in", range(200)))
        async with Running([stage], lab.bus) as second:
            await second.until(
                lambda: [len(one.workers[0].status().tasks) for one in (first, second)] == [1, 1], timeout_s=20
            )
            await lab.append(numbers(lab.prefix + "in", range(200, 400)))
            assert_counted_once(await all_out(lab, 400), 400)
        await first.until(lambda: len(first.workers[0].status().tasks) == 2, timeout_s=20)
        await lab.append(numbers(lab.prefix + "in", range(400, 500)))
        assert_counted_once(await all_out(lab, 500), 500)


async def test_a_task_that_was_fenced_opens_again(lab: Lab) -> None:
    stage = counting(lab)
    await create(lab, stage)
    async with Running([stage], lab.bus) as running:
        await running.until(lambda: all(task.state == "running" for task in running.workers[0].status().tasks))
        await running.until(lambda: len(running.workers[0].status().tasks) == 2)
        rival = lab.bus.transactions(f"{stage.group}-0", stage.group)
        await rival.open()
        await rival.close()
        await lab.append(numbers(lab.prefix + "in", range(200)))
        assert_counted_once(await all_out(lab, 200), 200)


async def test_an_older_owner_cannot_commit(lab: Lab) -> None:
    await lab.create({lab.prefix + "out": 1})
    older, newer = (lab.bus.transactions(lab.prefix + "id", lab.prefix + "g") for _ in range(2))
    await older.open()
    await newer.open()
    writes = {Part(lab.prefix + "out", 0): [Out(lab.prefix + "out", b"k", b"older")]}
    with pytest.raises(FencedError):
        await older.commit(writes, {})
    await older.close()
    await newer.commit({Part(lab.prefix + "out", 0): [Out(lab.prefix + "out", b"k", b"newer")]}, {})
    await newer.close()
    assert [record.value for record in await lab.read(lab.prefix + "out")] == [b"newer"]


async def stopped_because(lab: Lab, stage: Stage, declared: Declared | None = None) -> str:
    """The reason for which task 0 of a stage stands still."""
    async with Running([stage], lab.bus, declared=declared) as running:

        def reason() -> str | None:
            tasks = [task for task in running.workers[0].status().tasks if task.state == "stopped"]
            return tasks[0].reason if tasks else None

        await running.until(lambda: reason() is not None)
        return reason() or ""


async def once(lab: Lab, stage: Stage) -> None:
    """Run a stage until it has read everything and committed that."""
    await lab.append([*numbers(lab.prefix + "in", range(20)), *idle(lab.prefix + "in")])
    async with Running([stage], lab.bus) as running:
        await running.until(running.settled)
        await all_out(lab, 20)
        await asyncio.sleep(0.2)


async def test_a_position_that_is_lost_stops_the_task(lab: Lab) -> None:
    stage = counting(lab)
    await create(lab, stage)
    await once(lab, stage)
    await lab.delete(stage.changelog)
    await lab.create({stage.changelog: PARTITIONS})
    assert "no position in" in await stopped_because(lab, stage)
    assert len(await lab.read(lab.prefix + "out")) == 20


async def test_a_position_that_is_out_of_range_stops_the_task(lab: Lab) -> None:
    stage = counting(lab)
    await create(lab, stage)
    await once(lab, stage)
    held = (await lab.bus.catalog.describe([lab.prefix + "in"]))[lab.prefix + "in"]
    beyond = position.Position({lab.prefix + "in": 10_000}, {lab.prefix + "in": held.id}, {})
    await lab.append([Out(stage.changelog, position.KEY, position.encode(beyond), (), n) for n in range(PARTITIONS)])
    assert "outside of what" in await stopped_because(lab, stage)


async def test_a_topic_that_was_created_again_stops_the_stage(lab: Lab) -> None:
    stage = counting(lab)
    await create(lab, stage)
    await once(lab, stage)
    await lab.delete(lab.prefix + "in")
    await lab.create({lab.prefix + "in": PARTITIONS})
    assert "deleted and created again" in await stopped_because(lab, stage)


async def test_a_topic_that_is_created_again_under_a_running_stage_stops_it(lab: Lab) -> None:
    stage = counting(lab)
    await create(lab, stage)
    async with Running([stage], lab.bus) as running:
        await running.until(lambda: {task.state for task in running.workers[0].status().tasks} == {"running"})
        await lab.delete(lab.prefix + "in")
        await lab.create({lab.prefix + "in": PARTITIONS})
        await running.until(lambda: {task.state for task in running.workers[0].status().tasks} == {"stopped"})
        reasons = {task.reason or "" for task in running.workers[0].status().tasks}
        assert all("created again" in reason or "does not exist" in reason for reason in reasons)


async def test_topics_must_be_those_that_were_declared(lab: Lab) -> None:
    stage = counting(lab)
    await create(lab, stage)
    other = Declared({lab.prefix + "in": TopicInfo("another", PARTITIONS)})
    assert "expected another" in await stopped_because(lab, stage, other)
    assert "fixed" in await stopped_because(lab, replace(stage, partitions=1, tables=[counts()]))


async def test_a_missing_topic_is_named(lab: Lab) -> None:
    stage = counting(lab)
    await lab.create({lab.prefix + "in": PARTITIONS, stage.changelog: PARTITIONS})
    assert f"topic {lab.prefix}out does not exist" in await stopped_because(lab, stage)


async def test_an_input_that_is_new_to_a_stage_is_read_from_its_start(lab: Lab) -> None:
    stage = counting(lab)
    await create(lab, stage, more=PARTITIONS)
    await once(lab, stage)
    seen: list[bytes | None] = []

    def step(_partition: int, _tables: Tables, batch: Batch) -> Result:
        seen.extend(record.value for records in batch.records.values() for record in records)
        return Result()

    await lab.append([Out(lab.prefix + "more", b"k", b"first")])
    inputs = [*stage.inputs, Input(lab.prefix + "more", "none")]
    async with Running([replace(stage, inputs=inputs, step=step)], lab.bus) as running:
        await running.until(lambda: seen == [b"first"])


async def test_group_offsets_show_where_the_stage_is(lab: Lab) -> None:
    stage = counting(lab)
    await create(lab, stage)
    await once(lab, stage)
    parts = [Part(lab.prefix + "in", number) for number in range(PARTITIONS)]
    bounds = await lab.bus.catalog.bounds(parts)
    assert await lab.bus.catalog.committed(stage.group, parts) == {part: end for part, (_, end) in bounds.items()}


async def test_a_large_backlog_flows_through_bounded_inboxes(lab: Lab) -> None:
    stage = replace(counting(lab), max_batch=50)
    biggest = 0
    plain = stage.step

    def step(partition: int, tables: Tables, batch: Batch) -> Result:
        nonlocal biggest
        biggest = max(biggest, sum(map(len, batch.records.values())))
        return plain(partition, tables, batch)

    await create(lab, stage)
    await lab.append(numbers(lab.prefix + "in", range(5_000)))
    async with Running([replace(stage, step=step)], lab.bus):
        assert_counted_once(await all_out(lab, 5_000), 5_000)
    assert biggest == 50


async def test_records_with_event_time_in_their_headers_arrive_whole(lab: Lab) -> None:
    stage = counting(lab)
    await create(lab, stage)
    sent = dated(lab.prefix + "in", b"k", 1_356_998_400_007)
    await lab.append([sent])
    async with Running([stage], lab.bus):
        await all_out(lab, 1)
    (found,) = await lab.read(lab.prefix + "out")
    assert (found.key, found.headers) == (b"k", sent.headers)
    assert envelope.event_time_ms(found.headers) == times.parse("2013-01-01T00:00:00.007Z")
