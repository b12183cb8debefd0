"""The feature service, put together."""

from dataclasses import replace

from trimtab.contracts import topics
from trimtab.contracts.control import LoopDeclared
from trimtab.contracts.data import SCHEMAS
from trimtab.feature.adapters import LoopTimes, TilesView
from trimtab.feature.api import Served, create_router
from trimtab.feature.settings import Settings
from trimtab.feature.stages import AGGREGATE, ROUTE, SERVICE, stages
from trimtab.loops import declaration
from trimtab.loops.groups import tile_groups
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.edge import Edge
from trimtab.runtime.host import LoopWork, Service
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.runtime.schemas import published

WRITES = {ROUTE: "grouped", AGGREGATE: "tile"}


def build(settings: Settings) -> Service:
    """The service for these settings."""
    producer = IdempotentProducer(settings.kafka.connection())
    return replace(wired(producer), resources=[producer])


def wired(edge: Edge) -> Service:
    """The same on any edge that is open."""
    served: dict[str, Served] = {}
    loop_times = LoopTimes()

    def work(declared: LoopDeclared) -> LoopWork | None:
        loop = declaration.of(declared)
        if not loop.features.looked_up:
            return None
        groups = tile_groups(loop)
        view = TilesView(loop, groups)
        one = Served({group.name: group for group in groups}, view.store)

        async def publish() -> None:
            for verb, schema in WRITES.items():
                writer = topics.group(SERVICE, verb, loop.name)
                await edge.send(published([SCHEMAS[schema]], by=writer, at_ms=wall_ms()))

        def started() -> None:
            served[loop.name] = one

        return LoopWork(stages(loop, loop_times), views=[view], prepare=publish, started=started)

    def ended(loop: str) -> None:
        served.pop(loop, None)
        loop_times.forget(loop)

    return Service(name=SERVICE, work=work, ended=ended, router=create_router(served))
