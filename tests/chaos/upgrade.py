"""Another release beside this one: services that are restarted one by one, there and back, while events flow.

And the cluster that these faults need, with what changes the loop's declaration meanwhile.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from faults import CALM_S, Fault, Scene
from release import FIELD, environment, later
from trimtab.cli.cluster.adapters import launch
from trimtab.cli.cluster.address import Addresses
from trimtab.cli.cluster.keys import KeyFiles
from trimtab.cli.cluster.programs import SERVICES, Cluster
from trimtab.cli.demo.collect import batches
from trimtab.cli.processes import Identity, free_port
from trimtab.cli.topics import topic_admin
from trimtab.contracts import topics
from trimtab.runtime.kafka.connection import Connection
from versions import NEW_VERSION
from victims import Spare, StuckError, Victims

THIS: Mapping[str, str] = {}
"""The environment of the release that is installed."""
WRITERS = ("ingest", "feature", "predictor", "monitor")
"""The services that publish schemas."""


@dataclass(frozen=True, slots=True)
class Fleet(Victims):
    """Services that nobody supervises, on a broker that is there already: each runs the release that it is told."""

    running: dict[str, Spare] = field(default_factory=dict)

    @contextmanager
    def up(self) -> Iterator[None]:
        """For a `with`."""
        KeyFiles(self.folder / "keys").ensure()
        asyncio.run(_control_topics(self.addresses.kafka))
        try:
            for name in SERVICES:
                self.running[name] = self.launched(name, THIS)
            self.until(lambda: self.is_ready, "the cluster")
            yield
        finally:
            with ThreadPoolExecutor() as pool:
                list(pool.map(Spare.end, self.running.values()))

    @property
    def addresses(self) -> Addresses:
        """Where everything is."""
        assert self.direct is not None, "its broker is not its own"
        return Addresses(Connection(self.direct), {name: [one.url] for name, one in self.running.items()})

    @property
    def is_ready(self) -> bool:
        """Whether all services answer as ready, asked now."""
        return all(one.is_ready for one in self.running.values())

    def serving_brokers(self) -> Sequence[Identity | None]:
        """None of its own."""
        return []

    def launched(self, name: str, release: Mapping[str, str], replica: int = 0) -> Spare:
        """Start a service in that release, with the settings that `trimtab up` gives one."""
        assert self.kafka is not None, "its broker is not its own"
        cluster = Cluster(self.folder, self.kafka, KeyFiles(self.folder / "keys"))
        program = cluster.service(name, replica, free_port(), {**os.environ, **release})
        return Spare(name, launch(program), program.url or "")

    def restart(self, name: str, release: Mapping[str, str]) -> None:
        """End a service in good order, and start it anew in that release; returns when it is ready."""
        self.running[name].end()
        self.running[name] = self.launched(name, release)
        self.until(lambda: self.running[name].is_ready, name)


async def _control_topics(kafka: Connection) -> None:
    async with topic_admin(kafka) as admin:
        await admin.ensure(topics.control())


async def upgrade(scene: Scene) -> float:
    """One service after the other in the other release, then all of them back; recovery: the longest of a service."""
    fleet = scene.victims
    assert isinstance(fleet, Fleet), "this cluster's services are supervised"
    other = environment(await asyncio.to_thread(later, _unused(fleet.folder)))
    took_s = [await _restarted(scene, fleet, name, other) for name in scene.rng.permutation(list(SERVICES))]
    await _have_written(fleet)
    await asyncio.sleep(CALM_S)
    took_s += [await _restarted(scene, fleet, name, THIS) for name in scene.rng.permutation(list(SERVICES))]
    return max(took_s)


def _unused(folder: Path) -> Path:
    return folder / f"release-{len(list(folder.glob('release-*')))}"


async def _restarted(scene: Scene, fleet: Fleet, name: str, release: Mapping[str, str]) -> float:
    began_s = time.monotonic()
    await asyncio.to_thread(fleet.restart, name, release)
    return await scene.recovered(began_s)


async def _have_written(fleet: Fleet) -> None:
    """Each writer has published the schemas of the other release. Raises StuckError."""
    wanted, said = set(WRITERS), FIELD.encode()
    async for batch in batches(fleet.addresses.kafka.bootstrap_servers, topics.SCHEMAS, lambda _: None):
        wanted -= {
            name for name in WRITERS for one in batch if said in one.value and f'"by":"{name}'.encode() in one.value
        }
    if wanted:
        raise StuckError(f"another release of {', '.join(sorted(wanted))}", fleet.folder)


UPGRADES = {
    fault.name: fault
    for fault in [
        NEW_VERSION,
        Fault("upgrade and downgrade", "each service restarted in another release, one by one, and back", upgrade),
    ]
}
