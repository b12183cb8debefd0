"""A predictor stopped for days of events, and one asked over HTTP, make the vectors of an undisturbed one."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from trimtab.contracts import control, envelope, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.feature.adapters import LoopTimes, TilesView
from trimtab.feature.stages import stages as feature_stages
from trimtab.loops.groups import tile_groups
from trimtab.loops.model import Loop
from trimtab.loops.vectors import Assembler, Vectors
from trimtab.predictor.adapters.asks import parser
from trimtab.predictor.adapters.door import Backing, Door
from trimtab.predictor.adapters.online import OnlineView
from trimtab.predictor.core import Ask, Deployment, Deployments, Model, Request, writer
from trimtab.predictor.stages import Predicting
from trimtab.predictor.stages import stage as score_stage
from trimtab.runtime import marks
from trimtab.runtime.control import written
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Stage
from trimtab.testing.declarations import offers
from trimtab.testing.stages import Running, data, topics_of

MINUTE, DAY = 60_000, 86_400_000
START = 1_700_006_400_000
FEATURES = {
    "categorical": ["place", "shop_last_place_1h", "shop_last_place_7d", "shop_last_place_1d_ago_1d", "seen_place"],
    "groups": {
        "shop": {
            "of": "offer",
            "by": ["place"],
            "windows": ["1h", "7d", "1d@1d"],
            "values": {
                "n": "count()",
                "mean": "avg(price)",
                "spread": "stddev(price)",
                "prices": "count(DISTINCT price)",
                "last_place": "last(place)",
            },
        },
        "clicked": {"of": "click", "by": ["offer_id"], "windows": ["2h"], "values": {"n": "count()"}},
    },
    "latest": {"seen": {"of": "offer", "by": ["place"], "values": ["price", "place"], "max_age": "2d"}},
}
LOOP = offers(features=FEATURES)
ASSEMBLER = Assembler(LOOP)
PREDICTION = AvroCodec(writer(LOOP, ASSEMBLER.names, "stream").schema)


class Summing:
    """A model whose score depends on every number and category, and on nothing else."""

    def score(self, vectors: Vectors, /) -> NDArray[np.float64]:
        numbers = np.nan_to_num(vectors.numbers, nan=-1.0).sum(axis=1)
        texts = [sum(len(text or "none") for text in row) for row in vectors.categories.tolist()]
        scores: NDArray[np.float64] = numbers + np.array(texts, dtype=np.float64)
        return scores


DEPLOYED = Deployments().with_one(Deployment(1, START, Model(1, "0" * 64, (), Summing()), ()))


def happened(loop: Loop, day: int) -> list[Out]:
    """A day of offers on five places, one in three clicked, in event-time order, as ingest passes them on."""
    generator = np.random.default_rng(day)
    found: list[tuple[int, str, dict[str, Any]]] = []
    for number in range(120):
        at_ms = START + day * DAY + number * 12 * MINUTE + int(generator.integers(0, MINUTE))
        offer_id = f"{day}-{number}"
        place = None if number % 17 == 0 else f"place {generator.integers(0, 5)}"
        price = float(generator.normal(20, 5))
        found.append((at_ms, "offer", {"offer_id": offer_id, "shown_at": at_ms, "place": place, "price": price}))
        if number % 3 == 0:
            clicked_ms = at_ms + 90_000
            click = {"click_id": f"c{offer_id}", "offer_id": f"{day}-{number + 1}", "clicked_at": clicked_ms}
            found.append((clicked_ms, "click", click))
    ordered = sorted(found, key=lambda one: one[0])
    return [record(loop, name, body, at_ms) for at_ms, name, body in ordered]


def record(loop: Loop, name: str, body: dict[str, Any], at_ms: int) -> Out:
    value = AvroCodec(loop.events[name].schema).encode(body)
    key = str(body["offer_id"])
    return Out(topics.events(loop.name, name), key.encode(), value, envelope.headers(key, name, "test", at_ms))


def passed(loop: Loop, until_ms: int) -> list[Out]:
    """What ingest's tasks say of every partition: how far they came."""
    group = topics.group("ingest", "dedupe", loop.name)
    said = [marks.Mark(marks.task_name(group, task), until_ms) for task in range(loop.partitions)]
    return [
        Out(topics.events(loop.name, name), marks.key_of(mark.task), None, marks.headers_of(mark), partition)
        for name in loop.events
        for partition in range(loop.partitions)
        for mark in said
    ]


def day_of(loop: Loop, number: int) -> list[Out]:
    """All that ingest writes on a day."""
    return [*happened(loop, number), *passed(loop, START + (number + 1) * DAY - 1)]


async def run(bus: MemoryBus, days: Sequence[int], stages: Sequence[Stage], until: Callable[[int], bool]) -> None:
    """Feed day after day to stages, each as soon as something holds for the day before; then stop them.

    Of a day that has been predicted the monitor says that the loop as a whole has passed it.
    """
    async with Running(stages, bus) as running:
        for number in days:
            bus.append(day_of(LOOP, number))
            await running.until(partial(until, number))
            if predicted(bus, number):
                at_ms = START + (number + 1) * DAY - 1
                event = control.TimeAdvanced(loop=LOOP.name, at_ms=at_ms)
                bus.append([written(event, id=f"day-{number}", source="test", trace=None)])


def predicted(bus: MemoryBus, number: int) -> bool:
    """Whether all asks up to a day have their prediction."""
    return len(data(bus, topics.predictions(LOOP.name))) == 120 * (number + 1)


def aggregated(bus: MemoryBus, number: int) -> bool:
    """Whether every task of the feature service has come to the end of a day."""
    until_ms = START + (number + 1) * DAY - 1
    said = [marks.read(one) for one in bus.records(topics.online(LOOP.name)) if marks.is_mark(one)]
    return len({mark.task for mark in said if mark and mark.ms and mark.ms >= until_ms}) == LOOP.partitions


def predictor(loop: Loop) -> Stage:
    """A predictor that has just been started: its replica is empty and read from the topic."""
    view = OnlineView(loop, ASSEMBLER.groups)

    def assemble(asks: Sequence[Ask], at_ms: NDArray[np.int64]) -> Vectors:
        return ASSEMBLER.assemble(asks, at_ms, view.store)

    predicting = Predicting(loop, assemble, lambda _: DEPLOYED, writer(loop, ASSEMBLER.names, "stream"))
    return score_stage(predicting, [view])


def predictions(bus: MemoryBus) -> dict[str, dict[str, Any]]:
    """By key, what was predicted and from what."""
    found = [PREDICTION.decode(one.value or b"") for one in data(bus, topics.predictions(LOOP.name))]
    assert len({one["key"] for one in found}) == len(found)
    return {one["key"]: one for one in found}


def features() -> list[Stage]:
    """The feature service's stages."""
    return feature_stages(LOOP, LoopTimes())


def dropped(bus: MemoryBus) -> int:
    """How many tiles have gone."""
    return sum(one.value is None for one in data(bus, topics.online(LOOP.name)))


def new_bus() -> MemoryBus:
    return MemoryBus(topics_of([*features(), predictor(LOOP)]))


async def undisturbed(days: int) -> dict[str, dict[str, Any]]:
    """The predictions of so many days, made as the days came, while tiles went."""
    bus = new_bus()
    await run(bus, range(days), [*features(), predictor(LOOP)], partial(predicted, bus))
    assert dropped(bus) > 0
    return predictions(bus)


@pytest.mark.parametrize("days", [1, 9], ids=["a day", "longer than windows and catch_up"])
async def test_a_predictor_stopped_for_days_computes_what_an_undisturbed_one_does(days: int) -> None:
    bus = new_bus()
    await run(bus, [0], [*features(), predictor(LOOP)], partial(predicted, bus))
    await run(bus, range(1, 1 + days), features(), partial(aggregated, bus))
    assert predicted(bus, 0)
    async with Running([*features(), predictor(LOOP)], bus) as running:
        await running.until(lambda: predicted(bus, days))
    await run(bus, [1 + days], [*features(), predictor(LOOP)], partial(predicted, bus))
    found, expected = predictions(bus), await undisturbed(2 + days)
    assert dropped(bus) == 0
    assert found.keys() == expected.keys()
    assert len(found) == 120 * (2 + days)
    for key, one in found.items():
        assert one == expected[key]
    assert sum(one["features"]["shop_n_1d_ago_1d"] or 0 for one in found.values()) > 1000
    assert sum(one["features"]["clicked_n_2h"] or 0 for one in found.values()) > 50


async def test_over_http_an_ask_gets_the_vector_of_the_stream() -> None:
    bus, streamed = new_bus(), await undisturbed(3)
    await run(bus, range(3), features(), partial(aggregated, bus))
    view = TilesView(LOOP, tile_groups(LOOP))
    for partition in range(LOOP.partitions):
        view.apply([one for one in data(bus, topics.online(LOOP.name)) if one.partition == partition])
    logged: list[Out] = []

    async def log(outs: Sequence[Out]) -> None:
        logged.extend(outs)

    door = Door(
        Backing(
            loop=LOOP,
            names=ASSEMBLER.names,
            assemble=lambda asks, at_ms: ASSEMBLER.assemble(asks, at_ms, view.store),
            deployed=lambda _: DEPLOYED,
            progress_ms=lambda: START + 3 * DAY,
            writer=writer(LOOP, ASSEMBLER.names, "http"),
            log=log,
        )
    )
    parse = parser(LOOP, lambda: START + 3 * DAY)
    asked = [one for one in happened(LOOP, 2) if one.topic == topics.events(LOOP.name, "offer")]
    bodies = [AvroCodec(LOOP.asks.schema).decode(one.value or b"") for one in asked]
    answers = await door.predict([Request(*one) for one in parse(bodies)])
    for answer, out in zip(answers, logged, strict=True):
        expected = streamed[answer["key"]]
        same = ("features", "ages_ms", "score", "version", "model_digest", "at_ms", "features_digest")
        assert {name: answer[name] for name in same} == {name: expected[name] for name in same}
        assert (out.topic, out.key) == (topics.answered(LOOP.name), answer["key"].encode())
        assert partition_of(out.key or b"", LOOP.partitions) in range(LOOP.partitions)
