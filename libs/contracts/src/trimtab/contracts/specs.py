"""What the catalogue of topics and metrics is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Scope = Literal["event", "loop", "stage", "all"]
LARGEST_RECORD = 8 * 1024 * 1024
"""Bytes that our own topics take. What follows from an event may be larger than the event; a broker that refused it
would stop the stage for good."""
SEGMENT = 2 * LARGEST_RECORD
"""Bytes of a compacted topic that stand whole: what is written over leaves the log once they are full."""


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
        compact = {"min.cleanable.dirty.ratio": "0.5", "segment.bytes": str(SEGMENT)}
        return MappingProxyType(plain | compact if self.cleanup == "compact" else plain)


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
