"""The bus on Kafka: what aiokafka 0.14 does well, and around it what it gets wrong for transactions."""

from trimtab.runtime.kafka.bus import KafkaBus
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.kafka.edge import IdempotentProducer

__all__ = ["Connection", "IdempotentProducer", "KafkaBus"]
