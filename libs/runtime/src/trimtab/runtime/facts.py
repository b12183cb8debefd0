"""What a trace shows of a control event."""

from typing import Any

import msgspec

SHOWN = (
    "loop",
    "at",
    "drift_id",
    "ask_id",
    "command_id",
    "request_id",
    "cause",
    "cause_kind",
    "cause.kind",
    "cause.drift_id",
    "cause.signals",
    "reason",
    "detail",
    "error",
    "model.digest",
    "dataset.rows",
    "gate.verdict",
    "wall_s",
    "verdict",
    "version",
    "model_version",
    "champion_version",
    "champion.version",
    "sequence",
    "effective_at",
    "since",
    "rule",
    "subject",
    "kind",
    "outcome",
)
"""Fields of control events, as they stand in their JSON."""


def facts(value: bytes) -> dict[str, str | int | float]:
    """The attributes of an event's span: those of the fields above that it has.

    >>> facts(b'{"loop": "flights", "version": 2, "champion": {"version": 3}, "signature": "x", "request_id": null}')
    {'trimtab.loop': 'flights', 'trimtab.version': 2, 'trimtab.champion.version': 3}
    """
    body = msgspec.json.decode(value)
    found = {path: _shown(_at(body, path)) for path in SHOWN}
    return {f"trimtab.{path}": value for path, value in found.items() if value is not None}


def _at(body: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(body, dict):
            return None
        body = body.get(name)
    return body


def _shown(value: Any) -> str | int | float | None:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return value if isinstance(value, str | int | float) else None
