"""Where a command finds Kafka and the services: the local cluster of this folder, or the addresses that are set."""

from dataclasses import dataclass

from trimtab.cli.cluster.programs import SERVICES
from trimtab.cli.cluster.state import ClusterState, StateFile
from trimtab.cli.errors import ClusterError
from trimtab.cli.settings import ClusterSettings
from trimtab.runtime.kafka.connection import Connection


class NoKafkaError(ClusterError):
    """Neither a local cluster nor an address."""

    def __init__(self) -> None:
        super().__init__(
            "no cluster is up here: start one with `trimtab up`, or set TRIMTAB_KAFKA__BOOTSTRAP_SERVERS to your Kafka"
        )


@dataclass(frozen=True, slots=True)
class Addresses:
    """How to reach Kafka, and the services' URLs by name (one a replica)."""

    kafka: Connection
    services: dict[str, list[str]]


def find(settings: ClusterSettings) -> Addresses:
    """Kafka and the services. Raises NoKafkaError.

    Services that run elsewhere are looked for on this machine at their usual ports, which docker compose publishes.
    """
    local = _local(settings)
    kafka = settings.kafka.connection() or (Connection(local.bootstrap) if local else None)
    if kafka is None:
        raise NoKafkaError
    usual = {name: [f"http://127.0.0.1:{port}"] for name, port in SERVICES.items()}
    return Addresses(kafka, {name: local.urls(name) for name in SERVICES} if local else usual)


def _local(settings: ClusterSettings) -> ClusterState | None:
    file = StateFile(settings.data_dir.absolute())
    return file.read() if file.is_held() else None
