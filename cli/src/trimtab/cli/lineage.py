"""Models as the log tells of them: which rows, which declaration, which version."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.cli.errors import ClusterError
from trimtab.cli.log import follower
from trimtab.cli.loops.declared import History, fold
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts import topics
from trimtab.contracts.control import LoopDeclared, ModelRegistered, ModelTrained, RetrainRequested
from trimtab.runtime.control import as_written
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.records import Read

TOPICS = (topics.LOOP_DECLARED, topics.MODEL_TRAINED, topics.MODEL_REGISTERED, topics.RETRAIN_REQUESTED)
SHORTEST = 6


class NoModelError(ClusterError):
    """No model, or more than one, has that name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        there = f"there are {', '.join(known)}" if known else "none has been trained yet"
        super().__init__(
            f"{name!r} names no one model: write LOOP/VERSION, or at least {SHORTEST} digits of its digest; {there}"
        )


class NoDeclarationError(ClusterError):
    """The declaration a model was made under is not in the log."""

    def __init__(self, loop: str, version: int | None) -> None:
        super().__init__(
            f"the log does not hold version {version} of the declaration of {loop}: it cannot be fitted again"
        )


@dataclass(frozen=True, slots=True)
class Lineage:
    """All models, their version numbers and loop versions by request, and the declarations."""

    trained: Sequence[ModelTrained]
    versions: Mapping[tuple[str, str], int]
    asked_under: Mapping[tuple[str, str], int]
    declared: Mapping[str, History]

    def model(self, name: str) -> ModelTrained:
        """The model that `LOOP/VERSION` or the beginning of a digest names. Raises NoModelError."""
        found = {one.request_id: one for one in self.trained if self._is(one, name)}
        if len(found) != 1:
            raise NoModelError(name, [self.name(one) for one in self.trained])
        return next(iter(found.values()))

    def name(self, trained: ModelTrained) -> str:
        """LOOP/VERSION; the beginning of the digest for a model that is not registered (yet)."""
        version = self.versions.get((trained.loop, trained.request_id))
        return trained.model.digest[:12] if version is None else f"{trained.loop}/{version}"

    def declaration(self, trained: ModelTrained) -> LoopDeclared:
        """The declaration under which it was asked for. Raises NoDeclarationError."""
        version = self.asked_under.get((trained.loop, trained.request_id))
        for one in self.declared[trained.loop].versions if trained.loop in self.declared else ():
            if one.version == version:
                return one
        raise NoDeclarationError(trained.loop, version)

    def _is(self, trained: ModelTrained, name: str) -> bool:
        digest = len(name) >= SHORTEST and trained.model.digest.startswith(name)
        return digest or name == self.name(trained)


def lineage(records: Sequence[Read]) -> Lineage:
    """From the records of the four topics, each partition in the log's order. What keeps no schema is passed over."""
    by_topic: dict[str, list[Read]] = {topic: [] for topic in TOPICS}
    for record in records:
        by_topic[record.topic].append(record)
    events = {topic: [one.event for one in as_written(topic, held)[0]] for topic, held in by_topic.items()}
    return Lineage(
        trained=[one for one in events[topics.MODEL_TRAINED] if isinstance(one, ModelTrained)],
        versions={
            (one.loop, one.request_id): one.version
            for one in events[topics.MODEL_REGISTERED]
            if isinstance(one, ModelRegistered)
        },
        asked_under={
            (one.loop, one.request_id): one.loop_version
            for one in events[topics.RETRAIN_REQUESTED]
            if isinstance(one, RetrainRequested)
        },
        declared=fold(by_topic[topics.LOOP_DECLARED]),
    )


def read_lineage(connection: Connection) -> Lineage:
    """The lineage of a cluster's models. Raises UnreachableError."""

    async def read() -> Lineage:
        async with follower(connection, TOPICS) as reader:
            return lineage(await reader.catch_up())

    return asyncio.run(read())


def store_url(settings: ClusterSettings) -> str:
    """Where the services keep blobs: TRIMTAB_STORE__URL, or the local cluster's folder."""
    return os.environ.get("TRIMTAB_STORE__URL") or (settings.data_dir.absolute() / "blobs").as_uri()
