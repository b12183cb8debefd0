"""What users send, as events: contract, reading, exact reasons, encoding. For every door, Kafka and HTTP."""
