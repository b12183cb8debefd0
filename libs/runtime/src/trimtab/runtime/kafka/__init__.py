"""The bus on Kafka: what aiokafka 0.14 does well, and around it what it gets wrong for transactions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.runtime.kafka.bus import KafkaBus
    from trimtab.runtime.kafka.connection import Connection
    from trimtab.runtime.kafka.edge import IdempotentProducer

__all__ = ["Connection", "IdempotentProducer", "KafkaBus"]
_HOMES = {"Connection": "connection", "IdempotentProducer": "edge", "KafkaBus": "bus"}


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: settings need a connection, and commands settings, without a Kafka client."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
