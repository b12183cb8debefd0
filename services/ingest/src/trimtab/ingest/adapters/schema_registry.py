"""A schema registry with Confluent's API."""

import json
from collections.abc import Mapping
from typing import Any

import httpx

from trimtab.ingest.errors import SchemaRegistryError

TIMEOUT_S = 2.0


class ConfluentRegistry:
    """Asks a schema registry with Confluent's API which schema an id names. An id is asked for once.

    Blocks for at most `timeout_s`: an id is new once in a schema's life.
    """

    def __init__(self, url: str, client: httpx.Client) -> None:
        self._url, self._client = url.rstrip("/"), client

    def __call__(self, schema_id: int) -> Mapping[str, Any] | None:
        """The Avro schema; None where the registry does not know the id, or it names something else.

        Raises SchemaRegistryError: then the task starts again with the same events, until it answers.
        """
        try:
            response = self._client.get(f"{self._url}/schemas/ids/{schema_id}")
        except httpx.HTTPError as error:
            raise SchemaRegistryError(self._url, str(error)) from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.is_error:
            raise SchemaRegistryError(self._url, f"status {response.status_code} for id {schema_id}")
        return self._schema(response)

    def _schema(self, response: httpx.Response) -> Mapping[str, Any] | None:
        try:
            found = response.json()
            if found.get("schemaType", "AVRO") != "AVRO":
                return None
            schema = json.loads(found["schema"])
        except (ValueError, KeyError, AttributeError) as error:
            raise SchemaRegistryError(self._url, f"its answer is none: {error}") from error
        return schema if isinstance(schema, Mapping) else None
