"""The composition root of the controller."""

import time
import uuid
from dataclasses import replace

from trimtab.retrain_controller.adapters import TOPICS, JournalView
from trimtab.retrain_controller.api import Deps, create_router
from trimtab.retrain_controller.core.journal import Journal
from trimtab.retrain_controller.settings import Settings
from trimtab.retrain_controller.stages import decide_stage
from trimtab.runtime.edge import Edge
from trimtab.runtime.host import Service
from trimtab.runtime.kafka.edge import IdempotentProducer


def build(settings: Settings) -> Service:
    """The service."""
    producer = IdempotentProducer(settings.kafka.connection())
    return replace(wired(producer), resources=[producer])


def wired(edge: Edge) -> Service:
    """The same on any edge that is open."""
    journal = Journal()
    deps = Deps(journal, edge, now_ms=lambda: int(time.time() * 1000), new_id=lambda: uuid.uuid4().hex)
    return Service(
        name="retrain-controller",
        stages=(decide_stage(),),
        views=tuple(JournalView(topic, journal) for topic in TOPICS),
        router=create_router(deps),
    )
