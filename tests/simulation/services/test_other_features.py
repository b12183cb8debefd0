"""A loop that runs gets another feature: it goes on, asks for a model that takes it by itself, and serves that."""

from pathlib import Path
from typing import Any

from trimtab.contracts import control, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.prediction import prediction_schema
from trimtab.loops import declaration
from trimtab.loops.declaration.digests import declaration_digest
from trimtab.loops.model import Loop
from trimtab.loops.vectors import names_of
from trimtab.runtime import marks
from trimtab.runtime.records import Out
from trimtab.testing.declarations import declared

from tests.simulation.services.processes import Assembly, Site
from tests.simulation.services.stream import Ride, between, loop
from tests.simulation.services.world import Chapter, Plan, World

CHANGED = 20
"""From this hour on the loop has another feature; the model of before has served for a while."""
END = 62
"""By then enough rows with it have matured, and a model of them serves."""


def with_another_feature() -> Loop:
    body, schemas = declaration.declared(loop())
    features = {**body["features"], "row": {**body["features"]["row"], "km_again": "km * 2"}}
    changed = {**body, "features": features}
    digest = declaration_digest(changed, schemas)
    return declaration.from_declared(changed, schemas, version=2, partitions=loop().partitions, digest=digest)


def predicted(world: World, by: Loop) -> dict[str, dict[str, Any]]:
    """What was predicted with a loop's features, by ride."""
    known, names = names_of(by), by.features.names
    codec = AvroCodec(prediction_schema(by.name, names, categorical=known.categories, aged=known.aged))
    values = [one.value or b"" for one in world.bus.records(topics.predictions(by.name)) if not marks.is_mark(one)]
    found = [codec.decode(value) for value in values if value.startswith(codec.head)]
    return {one["key"]: one for one in found}


async def play(world: World, other: Loop) -> None:
    await world.start()
    for hour in range(END):
        if hour == CHANGED:
            event = control.encode(declared(other, version=other.version))
            world.bus.append([Out(topics.LOOP_DECLARED, other.name.encode(), event)])
        assert await world.feed(hour) == []
    assert await world.rest(END) == []


def test_a_loop_that_gets_another_feature_closes_by_itself(tmp_path: Path) -> None:
    site = Site(tmp_path / "disk", tmp_path / "shared")
    site.prepare()
    site.disk.mkdir()
    world, other = World(Plan(0, Chapter(0, END)), site, Assembly()), with_another_feature()
    world.loop.run_until_complete(play(world, other))

    requested, deployed = world.events(topics.RETRAIN_REQUESTED), world.events(topics.DEPLOYMENT_CHANGED)
    assert [one.cause.kind for one in requested] == ["first", "first"]
    assert [(one.cause, one.champion.version, list(one.shadows)) for one in deployed] == [
        ("first", 1, []),
        ("first", 2, []),
    ]
    before, after = predicted(world, loop()), predicted(world, other)
    asked = [one for one in between(0, END) if isinstance(one, Ride)]
    assert before.keys() | after.keys() == {one.ride for one in asked}
    serves_ms = deployed[1].effective_at_ms
    served = {(one["at_ms"] >= serves_ms, one["arm"], one["version"]) for one in after.values()}
    assert served == {(False, "none", None), (True, "champion", 2)}
    assert {one and one.champion and one.champion.version for one in world.serving().values()} == {2}
    world.loop.end()
