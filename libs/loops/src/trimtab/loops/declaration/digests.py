"""Digests over canonical JSON: equal definitions have equal digests, whatever the order of their keys."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_SHORT = 16


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8.

    >>> canonical({"b": 1, "a": [2.5]})
    b'{"a":[2.5],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def declaration_digest(declaration: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over a declaration and the Avro schemas of its events."""
    return hashlib.sha256(canonical({"declaration": declaration, "schemas": schemas})).hexdigest()


def definition_digest(definition: Mapping[str, Any]) -> str:
    """The first 16 hex digits of the SHA-256 over a definition: enough to tell the groups of a loop apart."""
    return hashlib.sha256(canonical(definition)).hexdigest()[:_SHORT]


def features_digest(definition: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over the definition of a loop's features; models, predictions and deployments name it."""
    return hashlib.sha256(canonical(definition)).hexdigest()
