"""The seven services on a simulated bus, each as its own wiring makes it; the trainer fits in its own process."""

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from trimtab.contracts import topics
from trimtab.contracts.control import LoopDeclared
from trimtab.feature import wiring as feature
from trimtab.ingest import wiring as ingest
from trimtab.ingest.settings import Settings as IngestSettings
from trimtab.ml.datasets import Dataset
from trimtab.monitor import wiring as monitor
from trimtab.predictor import wiring as predictor
from trimtab.predictor.settings import Settings as PredictorSettings
from trimtab.registry import wiring as registry
from trimtab.registry.adapters.database import Projected, migrate
from trimtab.registry.adapters.queries import Queries
from trimtab.registry.settings import DatabaseSettings, SigningSettings, StoreSettings
from trimtab.registry.settings import Settings as RegistrySettings
from trimtab.retrain_controller import wiring as retrain_controller
from trimtab.runtime.host.service import LoopWork, Service
from trimtab.runtime.settings import SigningSettings as Keys
from trimtab.runtime.settings import StoreSettings as Store
from trimtab.runtime.stage import Effect, Output, Stage
from trimtab.store.blobs import BlobStore
from trimtab.store.signing import Signer, make_key_pair
from trimtab.store.sql import create_sql_engine
from trimtab.testing.simulation import SeededLoop, ServiceProgram, SimulatedBus, SimulatedEdge
from trimtab.trainer import stages as trainer
from trimtab.trainer.adapters.child import answered
from trimtab.trainer.adapters.work import Workshop
from trimtab.trainer.core import Begun, Job, Trained, train
from trimtab.trainer.wiring import order_of

FIT_S = 1.0
"""A fit takes up to so long, virtually."""
KINDS = ("ingest", "feature", "predictor", "monitor", "retrain-controller", "trainer", "registry")
Changes = Mapping[str, Callable[[Stage, "Site"], Stage]]
"""What is changed in a stage, by group."""
Remembered = dict[tuple[Any, ...], Trained]


@dataclass(frozen=True, slots=True)
class Site:
    """What outlives processes: the disk of a schedule, keys, blobs, fits that were done before.

    `disk`: a schedule's own. `shared`: keys and blobs, for all schedules of this process.
    """

    disk: Path
    shared: Path
    fits: Remembered = field(default_factory=dict)

    def prepare(self) -> None:
        """Make keys and an empty registry's database once; schedules copy it."""
        for name in ("trainer", "registry"):
            make_key_pair(self.shared, name)
        migrate(create_sql_engine(f"sqlite:///{self.shared}/empty.db"))

    @property
    def blobs(self) -> str:
        """Where models are."""
        return f"file://{self.shared}/blobs"

    def key(self, name: str, kind: str) -> Path:
        """A key's file."""
        return self.shared / f"{name}.{kind}.pem"

    def database(self, process: str) -> str:
        """A registry's database: each process has one of its own, which it finds again."""
        file = self.disk / f"{process}.db"
        if not file.exists():
            shutil.copy(self.shared / "empty.db", file)
        return f"sqlite:///{file}"

    def queries(self, process: str) -> Queries:
        """Reads of a registry's database."""
        return Queries(create_sql_engine(self.database(process)))

    def train(self, job: Job, rows: Dataset, begun: Begun) -> Trained:
        """The same job on the same rows gives the same model to the byte: it is fitted once."""
        models = [None if one is None else (one.version, one.until_ms) for one in (job.champion, job.first)]
        known = (rows.digest(), job.at_ms, job.seed, *models)
        if known not in self.fits:
            self.fits[known] = train(job, rows, begun)
        return self.fits[known]


@dataclass(frozen=True, slots=True)
class Assembly:
    """What is put together: the services as they are, or with a bug in a stage or in the bus."""

    changes: Changes = field(default_factory=dict)
    bus: Callable[[SeededLoop, Mapping[str, int], int], SimulatedBus] = SimulatedBus


def service(kind: str, site: Site, bus: SimulatedBus, process: str) -> Service:
    """A service as its own composition root makes it."""
    edge = SimulatedEdge(bus, kind)
    match kind:
        case "ingest":
            return ingest.wired(IngestSettings(store=Store(url=site.blobs), trace_share=0.0), edge)
        case "feature":
            return feature.wired(edge)
        case "predictor":
            keys = Keys(public_key_file=site.key("registry", "public"))
            disk = site.disk / process
            return predictor.wired(PredictorSettings(store=Store(url=site.blobs), signing=keys, data_dir=disk), edge)
        case "monitor":
            return monitor.wired(edge)
        case "retrain-controller":
            return retrain_controller.wired(edge)
        case "trainer":
            return trainer_service(site, bus, process)
        case _:
            return registry.wired(registry_settings(site, process), edge)


def registry_settings(site: Site, process: str) -> RegistrySettings:
    """Of the registry in a process."""
    return RegistrySettings(
        store=StoreSettings(url=site.blobs),
        signing=SigningSettings(
            private_key_file=site.key("registry", "private"), public_key_file=site.key("trainer", "public")
        ),
        registry=DatabaseSettings(database_url=site.database(process)),
    )


def projected(site: Site, process: str) -> Projected:
    """A registry's database."""
    settings = registry_settings(site, process)
    return registry.projection_of(create_sql_engine(settings.registry.database_url), settings.signing)


def trainer_service(site: Site, bus: SimulatedBus, process: str) -> Service:
    """The trainer with its fitting process in its own: it dies with it, and a fit takes its time."""
    shop = Workshop(bus, BlobStore(site.blobs), site.disk / process, "simulated", "1", "0" * 64, site.train)

    async def perform(effect: Effect) -> Mapping[str, Any]:
        await asyncio.sleep(bus.loop.dice.unit() * FIT_S)
        return {**await answered(shop, order_of(effect), lambda: bus.now_ms() * 10**6), "wall_s": FIT_S}

    sign = Signer.load(site.key("trainer", "private")).sign
    return Service(name="trainer", stages=[trainer.stage(sign, perform)])


def program(kind: str, site: Site, bus: SimulatedBus, assembly: Assembly, process: str) -> ServiceProgram:
    """A process of a kind, with one partition for what loops share: the others would stay empty."""
    made = service(kind, site, bus, process)
    change = partial(changed, assembly.changes, site)
    work = made.work

    def working(declared: LoopDeclared) -> LoopWork | None:
        found = None if work is None else work(declared)
        return None if found is None else replace(found, stages=[change(stage) for stage in found.stages])

    return ServiceProgram(
        bus,
        replace(made, stages=[change(stage) for stage in made.stages], work=None if work is None else working),
    )


def changed(changes: Changes, site: Site, stage: Stage) -> Stage:
    """A stage as it is simulated."""
    change = changes.get(stage.group)
    return narrow(stage if change is None else change(stage, site))


SHARED = frozenset(spec.name for spec in topics.control())


def narrow(stage: Stage) -> Stage:
    """The same stage with one partition of each shared topic."""
    outputs = [Output(out.topic, 1, out.marks) if out.topic in SHARED else out for out in stage.outputs]
    return replace(stage, outputs=outputs, partitions=1 if stage.changelog in SHARED else stage.partitions)


def specs(loop: str, events: Sequence[str], partitions: int) -> Mapping[str, tuple[int, bool]]:
    """All topics: how many partitions, whether compacted."""
    return {
        spec.name: (1 if spec.name in SHARED else spec.partitions, spec.cleanup == "compact")
        for spec in (*topics.control(), *topics.of_loop(loop, events, partitions))
    }
