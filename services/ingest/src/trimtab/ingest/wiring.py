"""The composition root of ingest."""

from collections.abc import Mapping
from dataclasses import replace

from trimtab.contracts import topics
from trimtab.contracts.control import LoopDeclared
from trimtab.contracts.data import SCHEMAS
from trimtab.ingest.adapters.log import EdgeLog
from trimtab.ingest.api import Deps, create_router
from trimtab.ingest.core.door import Door
from trimtab.ingest.settings import SchemaRegistrySettings, Settings
from trimtab.ingest.stages import ACCEPT, SERVICE, Edges, contracts_of, stages
from trimtab.loops import declaration
from trimtab.loops.incoming.contract import Contract
from trimtab.loops.incoming.ports import ResolveSchema, no_registry
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.edge import Edge
from trimtab.runtime.host import LoopWork, Service
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.runtime.schemas import published
from trimtab.store.blobs import BlobStore


def build(settings: Settings) -> Service:
    """The service for these settings."""
    producer = IdempotentProducer(settings.kafka.connection())
    return replace(wired(settings, producer), resources=[producer])


def wired(settings: Settings, edge: Edge) -> Service:
    """The same on any edge that is open."""
    edges = Edges(BlobStore(settings.store.url).put, settings.trace_share)
    resolve = _resolver(settings.schema_registry)
    open_loops: dict[str, Mapping[str, Contract]] = {}

    def work(declared: LoopDeclared) -> LoopWork:
        loop = declaration.of(declared)
        contracts = contracts_of(loop, resolve)
        writer = topics.group(SERVICE, ACCEPT, loop.name)
        written = [*(event.schema for event in loop.events.values()), SCHEMAS["rejected"]]
        records = published(written, by=writer, at_ms=wall_ms())

        async def publish() -> None:
            await edge.send(records)

        return LoopWork(
            stages(loop, contracts, edges), prepare=publish, started=lambda: open_loops.update({loop.name: contracts})
        )

    def close(loop: str) -> None:
        open_loops.pop(loop, None)

    return Service(
        name=SERVICE,
        work=work,
        ended=close,
        router=create_router(Deps(Door(open_loops, EdgeLog(edge)), wall_ms)),
    )


def _resolver(settings: SchemaRegistrySettings) -> ResolveSchema:
    if settings.url is None:
        return no_registry
    import httpx  # as long to import as most of the rest, and few have a schema registry

    from trimtab.ingest.adapters.schema_registry import TIMEOUT_S, ConfluentRegistry

    password = settings.password.get_secret_value()
    auth = httpx.BasicAuth(settings.username, password) if settings.username else None
    return ConfluentRegistry(settings.url, httpx.Client(timeout=TIMEOUT_S, auth=auth))
