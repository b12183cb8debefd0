"""Exactly-once stages on Kafka or in memory: bus, task, table, time, telemetry."""
