"""The requests of transactions, version 2 (Kafka 4, KIP-890), which aiokafka lacks.

A batch makes its partition part of the transaction, so none is added beforehand, and the end of a transaction gives the
next one an epoch of its own: whatever of an earlier one arrives late is fenced. A cluster speaks so where its feature
`transaction.version` is 2 or more. Field by field as in https://kafka.apache.org/protocol.
"""

# aiokafka has no types, so its classes are Any to mypy.
# mypy: disable-error-code="misc"

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_TEXT = CompactString("utf-8")
_NO_TAGS: dict[int, bytes] = {}
_FINALIZED = 2
"""The tag of the features that hold for the whole cluster."""


def _by_topic(*fields: tuple[str, Any]) -> CompactArray:
    """An array of topics, each with an array of partitions, which have these fields."""
    partitions = CompactArray(("partition", Int32), *fields, ("tags", TaggedFields))
    return CompactArray(("topic", _TEXT), ("partitions", partitions), ("tags", TaggedFields))


class FeaturesResponse(Response):
    """ApiVersions response, version 3."""

    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        ("api_keys", CompactArray(("api_key", Int16), ("min", Int16), ("max", Int16), ("tags", TaggedFields))),
        ("throttle_time_ms", Int32),
        ("tags", TaggedFields),
    )
    _FEATURES = CompactArray(("name", _TEXT), ("max", Int16), ("min", Int16), ("tags", TaggedFields))

    def level(self, feature: str) -> int:
        """The level at which the cluster runs a feature; 0: not at all."""
        told = self.tags.get(_FINALIZED)
        found = self._FEATURES.decode(BytesIO(told)) if told else []
        return next((level for name, level, *_ in found if name == feature), 0)


class FeaturesRequestStruct(RequestStruct):
    """ApiVersions request, version 3. Its answer's header is that of version 0, so that everybody can read it."""

    FLEXIBLE_VERSION = True
    API_KEY = 18
    API_VERSION = 3
    RESPONSE_TYPE = FeaturesResponse
    SCHEMA = Schema(("software", _TEXT), ("software_version", _TEXT), ("tags", TaggedFields))

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> ResponseHeader_v0:
        """Read it."""
        return ResponseHeader_v0.decode(read_buffer)


class FeaturesRequest(Request[FeaturesRequestStruct]):
    """Ask which features the cluster runs."""

    API_KEY = 18

    def build(self, request_struct_class: type[FeaturesRequestStruct]) -> FeaturesRequestStruct:
        """The request as it goes over the wire."""
        return request_struct_class("trimtab", "1", _NO_TAGS)


class ProduceV12Response(Response):
    """Produce response, version 12."""

    API_KEY = 0
    API_VERSION = 12
    SCHEMA = Schema(
        (
            "topics",
            _by_topic(
                ("error_code", Int16),
                ("offset", Int64),
                ("timestamp", Int64),
                ("log_start_offset", Int64),
                ("record_errors", CompactArray(("at", Int32), ("message", _TEXT), ("tags", TaggedFields))),
                ("error_message", _TEXT),
            ),
        ),
        ("throttle_time_ms", Int32),
        ("tags", TaggedFields),
    )


class ProduceV12RequestStruct(RequestStruct):
    """Produce request, version 12."""

    FLEXIBLE_VERSION = True
    API_KEY = 0
    API_VERSION = 12
    RESPONSE_TYPE = ProduceV12Response
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("required_acks", Int16),
        ("timeout_ms", Int32),
        ("topics", _by_topic(("records", CompactBytes))),
        ("tags", TaggedFields),
    )


class ProduceV12Request(Request[ProduceV12RequestStruct]):
    """Write batches whose partitions become part of the transaction."""

    API_KEY = 0

    def __init__(
        self,
        transactional_id: str,
        acks: int,
        timeout_ms: int,
        topics: Sequence[tuple[str, Sequence[tuple[int, bytes]]]],
    ) -> None:
        self._told = transactional_id, acks, timeout_ms
        self._topics = [(topic, [(*part, _NO_TAGS) for part in parts], _NO_TAGS) for topic, parts in topics]

    def build(self, request_struct_class: type[ProduceV12RequestStruct]) -> ProduceV12RequestStruct:
        """The request as it goes over the wire."""
        return request_struct_class(*self._told, self._topics, _NO_TAGS)


class EndTxnV5Response(Response):
    """EndTxn response, version 5: who the producer is from now on."""

    API_KEY = 26
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class EndTxnV5RequestStruct(RequestStruct):
    """EndTxn request, version 5."""

    FLEXIBLE_VERSION = True
    API_KEY = 26
    API_VERSION = 5
    RESPONSE_TYPE = EndTxnV5Response
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("committed", Boolean),
        ("tags", TaggedFields),
    )


class EndTxnV5Request(Request[EndTxnV5RequestStruct]):
    """Commit, and take a new epoch."""

    API_KEY = 26

    def __init__(self, transactional_id: str, producer_id: int, epoch: int) -> None:
        self._told = transactional_id, producer_id, epoch

    def build(self, request_struct_class: type[EndTxnV5RequestStruct]) -> EndTxnV5RequestStruct:
        """The request as it goes over the wire."""
        return request_struct_class(*self._told, True, _NO_TAGS)


class TxnOffsetCommitV5Response(Response):
    """TxnOffsetCommit response, version 5."""

    API_KEY = 28
    API_VERSION = 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("errors", _by_topic(("error_code", Int16))),
        ("tags", TaggedFields),
    )


class TxnOffsetCommitV5RequestStruct(RequestStruct):
    """TxnOffsetCommit request, version 5."""

    FLEXIBLE_VERSION = True
    API_KEY = 28
    API_VERSION = 5
    RESPONSE_TYPE = TxnOffsetCommitV5Response
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("group", _TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation", Int32),
        ("member", _TEXT),
        ("instance", _TEXT),
        ("topics", _by_topic(("offset", Int64), ("leader_epoch", Int32), ("metadata", _TEXT))),
        ("tags", TaggedFields),
    )


class TxnOffsetCommitV5Request(Request[TxnOffsetCommitV5RequestStruct]):
    """Make a group's offsets part of the transaction; the group is named by no other request."""

    API_KEY = 28

    def __init__(
        self,
        transactional_id: str,
        group: str,
        producer_id: int,
        epoch: int,
        topics: Sequence[tuple[str, Sequence[tuple[int, int, str]]]],
    ) -> None:
        self._told = transactional_id, group, producer_id, epoch
        self._topics = [
            (topic, [(part, offset, -1, metadata, _NO_TAGS) for part, offset, metadata in parts], _NO_TAGS)
            for topic, parts in topics
        ]

    def build(self, request_struct_class: type[TxnOffsetCommitV5RequestStruct]) -> TxnOffsetCommitV5RequestStruct:
        """The request as it goes over the wire. -1 and no names: of no member, as who fences by epochs says."""
        return request_struct_class(*self._told, -1, "", None, self._topics, _NO_TAGS)
