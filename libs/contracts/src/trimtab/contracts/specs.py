"""What the catalogue of topics and metrics is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Scope = Literal["event", "loop", "stage", "all"]
LARGEST_RECORD = 8 * 1024 * 1024
"""Bytes that our own topics take. What follows from an event may be larger than the event; a broker that refused it
would stop the stage for good."""
SEGMENT, SEGMENT_MS = 2 * LARGEST_RECORD, 2 * 60_000
"""Bytes and age of what stands whole in a compacted topic. What is written over leaves the log some time after its
segment is full or that old, so that whoever restores reads little else than what is still true."""
REMOVED_TOLD_MS = 60 * 60_000
"""A changelog says for so long that an entry was removed, at least; no restore may take longer."""


@dataclass(frozen=True, slots=True)
class TopicTemplate:
    """One file of schemas/topics. `partitions`: a number, "loop" (the loop's own number) or "stage"."""

    name: str
    topic: str
    plane: Literal["data", "control"]
    per: Scope
    description: str
    key: str
    value: Literal["users", "declared", "avro", "prediction", "json", "changelog"]
    schema: str | None
    partitions: int | Literal["loop", "stage"]
    cleanup: Literal["delete", "compact"]
    retention_ms: int
    marks: bool
    writers: Sequence[str]
    readers: Sequence[str]

    def config(self) -> Mapping[str, str]:
        """The broker's settings of such a topic."""
        plain = {
            "cleanup.policy": self.cleanup,
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": str(self.retention_ms),
        }
        plain |= {} if self.value == "users" else {"max.message.bytes": str(LARGEST_RECORD)}
        if self.cleanup == "delete":
            return MappingProxyType(plain)
        plain |= {"min.cleanable.dirty.ratio": "0.5", "segment.bytes": str(SEGMENT)}
        plain |= {"segment.ms": str(SEGMENT_MS), "segment.jitter.ms": str(SEGMENT_MS // 2)}
        plain |= {"delete.retention.ms": str(REMOVED_TOLD_MS)} if self.value == "changelog" else {}
        return MappingProxyType(plain)


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A stage of schemas/stages.yaml. `name` is <service>.<verb>; `partitions`: a number or "loop"."""

    name: str
    per: Literal["loop", "all"]
    partitions: int | Literal["loop"]
    does: str

    @property
    def service(self) -> str:
        """The service it belongs to."""
        return self.name.partition(".")[0]

    @property
    def verb(self) -> str:
        """What it does there."""
        return self.name.partition(".")[2]


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to create. `template` is the name of its file in schemas/topics."""

    name: str
    partitions: int
    config: Mapping[str, str]
    cleanup: Literal["delete", "compact"]
    template: str


@dataclass(frozen=True, slots=True)
class Metric:
    """A declared metric. `unit` in UCUM."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    unit: str
    attributes: Sequence[str]
    description: str
