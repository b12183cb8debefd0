"""The composition root of the monitor."""

from dataclasses import replace

from trimtab.contracts import topics
from trimtab.contracts.control import LoopDeclared
from trimtab.contracts.data import SCHEMAS
from trimtab.loops import declaration
from trimtab.monitor.adapters import ModelsView, QualityView, SchemasView
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.core.stretches import HeldStretches
from trimtab.monitor.settings import Settings
from trimtab.monitor.stages import detect_stage, join_stage, route_stage
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.edge import Edge
from trimtab.runtime.host import LoopWork, Service
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.runtime.schemas import published

WRITTEN = ("joinable", "signals", "outcome")
"""The schemas of what the monitor writes."""


def build(settings: Settings) -> Service:
    """The service."""
    producer = IdempotentProducer(settings.kafka.connection())
    return replace(wired(producer), resources=[producer])


def wired(edge: Edge) -> Service:
    """The same on any edge that is open."""
    schemas = SchemasView()

    async def publish() -> None:
        await edge.send(published([SCHEMAS[name] for name in WRITTEN], by="monitor", at_ms=wall_ms()))

    def work(declared: LoopDeclared) -> LoopWork:
        loop = declaration.of(declared)
        plan = plan_of(loop)
        watch, stretches = Watch(plan), HeldStretches()
        models = ModelsView(plan, watch)
        quality = [QualityView(t, loop.name, stretches) for t in (topics.QUALITY_VIOLATED, topics.QUALITY_RESTORED)]
        return LoopWork(
            stages=[
                route_stage(loop, models, schemas, [models, schemas]),
                join_stage(loop, stretches, quality),
                detect_stage(loop, watch, [models]),
            ],
            prepare=publish,
        )

    return Service(name="monitor", views=[schemas], work=work)
