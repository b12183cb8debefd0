"""The predictor, put together."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from trimtab.contracts import topics
from trimtab.contracts.control import LoopDeclared
from trimtab.loops import declaration
from trimtab.loops.online import OnlineStore
from trimtab.loops.partials import Ints
from trimtab.loops.vectors import Assembler, Vectors
from trimtab.predictor.adapters.answers import Spools
from trimtab.predictor.adapters.asks import parser
from trimtab.predictor.adapters.deployments import DeploymentsView
from trimtab.predictor.adapters.door import Backing, Door
from trimtab.predictor.adapters.online import OnlineView, over_budget
from trimtab.predictor.api import Served, create_router
from trimtab.predictor.core import Ask, writer
from trimtab.predictor.settings import Settings
from trimtab.predictor.stages import Predicting, stage
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.edge import Edge
from trimtab.runtime.host import LoopWork, Service
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.runtime.schemas import published
from trimtab.runtime.stage import View
from trimtab.store.blobs import BlobStore
from trimtab.store.signing import Verifier

LOOK_AGAIN_S = 10.0
"""So often the store is asked for blobs for the lack of which a deployment was refused."""


def build(settings: Settings) -> Service:
    """The service for these settings."""
    producer = IdempotentProducer(settings.kafka.connection())
    made = wired(settings, producer)
    return replace(made, resources=[producer, *made.resources])


def wired(settings: Settings, edge: Edge) -> Service:
    """The same on any edge that is open."""
    folder = settings.data_dir / "spool" / f"predictor-{settings.replica}"
    spools = Spools(folder, edge, settings.spool.max_mb * 1_000_000)
    blobs, verifier = BlobStore(settings.store.url), Verifier.load(settings.signing.public_key_file)
    served: dict[str, Served] = {}
    replicas: dict[str, OnlineStore] = {}
    obeyed: dict[str, DeploymentsView] = {}
    arrived = asyncio.Event()

    def ended(loop: str) -> None:
        spools.end(loop)
        served.pop(loop, None)
        replicas.pop(loop, None)
        obeyed.pop(loop, None)

    async def look() -> None:
        async with asyncio.TaskGroup() as looking:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await arrived.wait()
                arrived.clear()
                for view in obeyed.values():
                    looking.create_task(view.look())

    def work(declared: LoopDeclared) -> LoopWork:
        loop = declaration.of(declared)
        assembler = Assembler(loop)
        online = OnlineView(loop, assembler.groups)
        deployments = DeploymentsView(loop, blobs, verifier, settings.models.keep_mb * 1_000_000, arrived=arrived.set)

        def assemble(asks: Sequence[Ask], at_ms: Ints) -> Vectors:
            return assembler.assemble(asks, at_ms, online.store)

        streamed, asked = writer(loop, assembler.names, "stream"), writer(loop, assembler.names, "http")
        predicting = Predicting(loop, assemble, deployments.deployed, streamed, memory=lambda: online.store.nbytes)
        views: list[View] = [online, deployments] if loop.features.looked_up else [deployments]
        backing = Backing(
            loop=loop,
            names=assembler.names,
            assemble=assemble,
            deployed=deployments.deployed,
            progress_ms=lambda: online.newest_ms,
            writer=asked,
            log=lambda outs: spools.of(loop.name).write(outs),
        )
        one = Served(
            predict=Door(backing).predict,
            names=assembler.names,
            deployments=lambda: deployments.deployments,
            refused=lambda: deployments.refused,
            loading=deployments.loading,
            parse=parser(loop, wall_ms),
        )
        stages = [stage(predicting, views)]

        async def prepare() -> None:
            spools.open(loop.name, topic_id(declared, topics.answered(loop.name)))
            await edge.send(published([streamed.schema], by=stages[0].group, at_ms=wall_ms()))

        def started() -> None:
            served[loop.name], replicas[loop.name], obeyed[loop.name] = one, online.store, deployments

        return LoopWork(stages, prepare=prepare, started=started)

    return Service(
        name="predictor",
        work=work,
        ended=ended,
        router=create_router(served),
        ready=lambda: over_budget(replicas, settings.online.memory_budget_mb),
        measures=spools.measures,
        resources=[spools],
        background=[spools.drain, look],
    )


def topic_id(declared: LoopDeclared, name: str) -> str:
    """A topic as it was when the loop was declared: made anew, it has another."""
    return next((topic.id for topic in declared.topics if topic.name == name), "")
