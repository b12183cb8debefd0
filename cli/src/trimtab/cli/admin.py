"""aiokafka's admin client, for a cluster of which a broker may just have gone: it is named for some seconds yet."""

# aiokafka has no types, so its classes are Any to mypy.
# mypy: disable-error-code="misc"

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, RequestTimedOutError, StaleMetadata

PATIENCE_S = 20.0
_PAUSE_S = 0.1
_AWAY = (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError, StaleMetadata)


class PatientAdmin(AIOKafkaAdminClient):
    """Asks again, and another broker, where one does not answer. What it asks for may be done twice without harm."""

    async def _send_request(self, request: Any, node_id: int | None = None) -> Any:
        ask = super()._send_request
        return await self._patiently(lambda: ask(request, node_id))

    async def _send_to_controller(self, request: Any) -> Any:
        ask = super()._send_to_controller
        return await self._patiently(lambda: ask(request))

    async def of(self, broker: int, request: Any) -> Any | None:
        """The answer of this very broker, asked once; None: it cannot be reached."""
        try:
            return await self._client.send(broker, request)
        except _AWAY:
            return None

    async def _patiently(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Raises what was last raised, after PATIENCE_S."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + PATIENCE_S
        while True:
            try:
                return await ask()
            except (*_AWAY, TimeoutError):
                if loop.time() > deadline_s:
                    raise
            await asyncio.sleep(_PAUSE_S)
            await self._client.force_metadata_update()
