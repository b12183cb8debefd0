"""What can be wrong with what services say to each other."""


class ContractError(Exception):
    """Root of this package's errors."""


class BadTimeError(ContractError, ValueError):
    """A text that is no RFC 3339 time with a zone."""

    def __init__(self, value: str) -> None:
        super().__init__(f"expected RFC 3339 with a zone, as 2013-01-01T05:00:00Z, got {value[:60]!r}")
        self.value = value


class BeyondTimeError(ContractError, ValueError):
    """A time that nothing can be reckoned from, or that is no text."""

    def __init__(self, value: object) -> None:
        super().__init__(f"expected a time as text between the years 1000 and 8999, got {str(value)[:60]}")
        self.value = value


class UnknownTopicError(ContractError):
    """A topic that is not in schemas/topics."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"no topic {topic!r} with control events is declared in schemas/topics")
        self.topic = topic


class BadControlEventError(ContractError):
    """Bytes on a control topic that do not keep its schema."""

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(f"an event on {topic} does not keep its schema: {reason}")
        self.topic = topic
        self.reason = reason


class BadSchemaError(ContractError):
    """An Avro schema that cannot be read."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not an Avro schema: {reason}")
        self.reason = reason


class CodecError(ContractError):
    """Root of what can go wrong between bytes and values."""


class NotSingleObjectError(CodecError):
    """Bytes without the marker of Avro's single-object encoding."""

    def __init__(self, start: bytes) -> None:
        super().__init__(
            f"expected single-object Avro (C3 01 and a fingerprint), got bytes that start with {start.hex(' ')}"
        )
        self.start = start


class UnknownFingerprintError(CodecError):
    """A schema that this reader has not seen (yet): its writer publishes it to the topic `schemas` first."""

    def __init__(self, fingerprint: bytes) -> None:
        super().__init__(f"no schema with fingerprint {fingerprint.hex()} is known; its writer publishes it first")
        self.fingerprint = fingerprint


class UnknownSchemaIdError(CodecError):
    """A Confluent frame whose schema id nobody can resolve."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"no schema with id {schema_id} is known: configure the schema registry that gave the id")
        self.schema_id = schema_id


class UndecodableError(CodecError):
    """Bytes that do not keep the schema they name."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the bytes do not keep their schema: {reason}")
        self.reason = reason


class UnencodableError(CodecError):
    """A value that does not fit its schema."""

    def __init__(self, schema: str, reason: str) -> None:
        super().__init__(f"the value does not fit the schema {schema}: {reason}")
        self.schema = schema
        self.reason = reason
