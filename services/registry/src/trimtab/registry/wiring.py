"""The composition root of the registry."""

import time
import uuid
from dataclasses import replace

from sqlalchemy import Engine

from trimtab.contracts import topics
from trimtab.registry.adapters.database import TOPICS, Projected, migrate
from trimtab.registry.adapters.desk import Desk
from trimtab.registry.adapters.queries import Queries
from trimtab.registry.api import Deps, create_router
from trimtab.registry.settings import Settings, SigningSettings
from trimtab.registry.stages import fold_stage
from trimtab.runtime.edge import Edge
from trimtab.runtime.host import Service
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.runtime.projection import Projection
from trimtab.store.blobs import BlobStore
from trimtab.store.signing import Signer, Verifier
from trimtab.store.sql import create_sql_engine

PROJECTION = "registry.project"


def build(settings: Settings) -> Service:
    """The service. Brings the database's tables up to date."""
    producer = IdempotentProducer(settings.kafka.connection())
    return replace(wired(settings, producer), resources=[producer])


def wired(settings: Settings, edge: Edge) -> Service:
    """The same on any edge that is open."""
    signer = Signer.load(settings.signing.private_key_file)
    trainers = Verifier.load(settings.signing.public_key_file)
    engine = create_sql_engine(settings.registry.database_url)
    migrate(engine)
    projected = projection_of(engine, settings.signing)
    queries = Queries(engine)
    desk = Desk(edge, queries, projected, patience_s=settings.registry.answer_s)
    deps = Deps(
        catalogue=queries,
        history=queries,
        commands=desk,
        blobs=BlobStore(settings.store.url),
        now_ms=lambda: int(time.time() * 1000),
        new_id=lambda: uuid.uuid4().hex,
    )
    return Service(
        name="registry",
        stages=(fold_stage(signer, trainers),),
        router=create_router(deps),
        projections=(Projection(PROJECTION, TOPICS, desk.positions, desk.apply),),
    )


def projection_of(engine: Engine, signing: SigningSettings) -> Projected:
    """The database as a fold of the log that believes signed events alone."""
    own = signing.own_keys_file
    registry = Verifier.load(own) if own is not None else Signer.load(signing.private_key_file).verifier()
    trainers = Verifier.load(signing.public_key_file)
    return Projected(engine, {topics.MODEL_TRAINED: trainers, topics.DEPLOYMENT_CHANGED: registry})
