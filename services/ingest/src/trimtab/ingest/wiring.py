"""The composition root of ingest."""

from collections.abc import Mapping

import httpx

from trimtab.contracts import topics
from trimtab.contracts.control import LoopDeclared
from trimtab.ingest.adapters import ConfluentRegistry, EdgeLog
from trimtab.ingest.api import Deps, create_router
from trimtab.ingest.core.door import Door
from trimtab.ingest.settings import SchemaRegistrySettings, Settings
from trimtab.ingest.stages import ACCEPT, SERVICE, Edges, contracts_of, stages
from trimtab.loops import declaration
from trimtab.loops.incoming.contract import Contract
from trimtab.loops.incoming.ports import ResolveSchema, no_registry
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.host import LoopWork, Service
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.runtime.schemas import published
from trimtab.store.blobs import BlobStore

REGISTRY_TIMEOUT_S = 2.0


def build(settings: Settings) -> Service:
    """The service for these settings."""
    producer = IdempotentProducer(settings.kafka.connection())
    edges = Edges(BlobStore(settings.store.url).put, settings.trace_share)
    resolve = _resolver(settings.schema_registry)
    open_loops: dict[str, Mapping[str, Contract]] = {}

    def work(declared: LoopDeclared) -> LoopWork:
        loop = declaration.from_declared(
            declared.declaration,
            declared.schemas,
            version=declared.version,
            partitions=declared.partitions,
            digest=declared.digest,
        )
        contracts = contracts_of(loop, resolve)
        writer = topics.group(SERVICE, ACCEPT, loop.name)
        records = published([event.schema for event in loop.events.values()], by=writer, at_ms=wall_ms())

        async def publish() -> None:
            await producer.send(records)

        return LoopWork(
            stages(loop, contracts, edges), prepare=publish, started=lambda: open_loops.update({loop.name: contracts})
        )

    def close(loop: str) -> None:
        open_loops.pop(loop, None)

    return Service(
        name=SERVICE,
        work=work,
        ended=close,
        router=create_router(Deps(Door(open_loops, EdgeLog(producer)), wall_ms, settings.max_body_bytes)),
        resources=[producer],
    )


def _resolver(settings: SchemaRegistrySettings) -> ResolveSchema:
    if settings.url is None:
        return no_registry
    password = settings.password.get_secret_value()
    auth = httpx.BasicAuth(settings.username, password) if settings.username else None
    return ConfluentRegistry(settings.url, httpx.Client(timeout=REGISTRY_TIMEOUT_S, auth=auth))
