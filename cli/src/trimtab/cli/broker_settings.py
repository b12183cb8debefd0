"""What a broker is told: Kafka's settings file of one node, alone or among others, and that of its own log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

COPIES = 3
"""Of each record, as far as there are brokers."""

SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "8",
    "offsets.retention.minutes": "525600",
    "transaction.state.log.num.partitions": "8",
    "add.partitions.to.txn.retry.backoff.ms": "2",
    "group.initial.rebalance.delay.ms": "0",
    "num.io.threads": "3",
    "num.network.threads": "2",
    "log.retention.ms": "-1",
    "log.index.size.max.bytes": str(1024 * 1024),
    "log.cleaner.io.max.bytes.per.second": str(16 * 1024 * 1024),
    "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
}
"""A killed broker may register again only when the session of the one before has ended: 3 s instead of 9. The cleaner
of compacted topics is held back: at full speed it takes a core from those who wait for a prediction. While the markers
of a task's last transaction are being written, its next one is tried every 2 ms instead of every 20."""

COPYING: Mapping[str, str] = {"num.replica.fetchers": "9", "offsets.commit.timeout.ms": "9000"}
"""Who copies asks whenever anything came, and each time for all partitions that its fetcher has: nine fetchers ask more
often, for a ninth each. Offsets wait longer for their copies than the 5 s of Kafka: until a broker that was killed
is known to be, and transactions need not begin anew."""

LOGGING = """\
status = warn
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %p %c{1}: %m%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
logger.settings.name = org.apache.kafka.common.config
logger.settings.level = warn
"""


@dataclass(frozen=True, slots=True)
class Node:
    """One of a cluster's brokers, which is a controller as well. `id`: Kafka's number for it."""

    id: int
    port: int
    controller_port: int


def properties(log_dir: Path, node: Node, nodes: Sequence[Node]) -> str:
    """The text of Kafka's settings file for one of these nodes."""
    here = "127.0.0.1"
    entries = {
        **SETTINGS,
        **replication(len(nodes)),
        "node.id": str(node.id),
        "log.dirs": str(log_dir),
        "controller.quorum.voters": ",".join(f"{one.id}@{here}:{one.controller_port}" for one in nodes),
        "listeners": f"PLAINTEXT://{here}:{node.port},CONTROLLER://{here}:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{here}:{node.port}",
    }
    return "".join(f"{key}={value}\n" for key, value in entries.items())


def replication(brokers: int) -> Mapping[str, str]:
    """Copies of everything, and how many must have a record before it counts as written: all but one.

    >>> replication(3)["default.replication.factor"], replication(3)["min.insync.replicas"]
    ('3', '2')
    >>> replication(1)["default.replication.factor"], replication(1)["min.insync.replicas"]
    ('1', '1')
    """
    copies = min(brokers, COPIES)
    written = str(max(1, copies - 1))
    return {
        "default.replication.factor": str(copies),
        "min.insync.replicas": written,
        "offsets.topic.replication.factor": str(copies),
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": written,
        "share.coordinator.state.topic.replication.factor": str(copies),
        "share.coordinator.state.topic.min.isr": written,
        **(COPYING if copies > 1 else {}),
    }
