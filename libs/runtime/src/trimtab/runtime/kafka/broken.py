"""A connection that the broker has just cut, on uvloop.

Writing to it is an OSError to aiokafka, which then connects anew; uvloop raises RuntimeError. That ended the task that
keeps a client's metadata, and whoever asked for them afterwards waited for ever.
"""

# aiokafka has no types, so its classes are Any to mypy.
# mypy: disable-error-code="misc"

from typing import Any

import aiokafka.conn
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError


class CuttableConnection(AIOKafkaConnection):
    """Closes itself and raises KafkaConnectionError when what it writes to is closed."""

    def send(self, request: Any, expect_response: bool = True) -> Any:
        """Send a request; a future of its answer."""
        try:
            return super().send(request, expect_response)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"connection at {self.host}:{self.port} is closed: {error}") from error


def expect_cuts() -> None:
    """From now on all of aiokafka's clients in this process use such connections."""
    aiokafka.conn.AIOKafkaConnection = CuttableConnection
