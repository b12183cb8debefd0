"""HTTP: events in, a verdict on each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Header, HTTPException, Request, Response

from trimtab.contracts import envelope
from trimtab.ingest.core.door import Answer, Door
from trimtab.ingest.core.door import Request as Sent
from trimtab.ingest.errors import (
    IngestError,
    LogAwayError,
    TooMuchError,
    UnknownEventError,
    UnknownLoopError,
    UnreadableBodyError,
)

LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_STATUS: Mapping[type[IngestError], int] = {
    UnknownLoopError: 404,
    UnknownEventError: 404,
    UnreadableBodyError: 400,
    TooMuchError: 413,
    LogAwayError: 503,
}
_EXAMPLE = {"accepted": 1, "rejected": 1, "events": [
    {"verdict": "accepted", "id": "o1"},
    {"verdict": "rejected", "rule": "schema", "reason": 'amount: expected number, got "20"'},
]}  # fmt: skip
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "all accepted", "content": {"application/json": {"example": _EXAMPLE}}},
    207: {"description": "some accepted, some rejected"},
    400: {"description": "not events"},
    404: {"description": "no such loop, or no such event"},
    413: {"description": "too much at once"},
    422: {"description": "all rejected"},
    503: {"description": "the log is away; try again"},
}


@dataclass(frozen=True, slots=True)
class Deps:
    """What the API works with."""

    door: Door
    now_ms: Callable[[], int]


def create_router(deps: Deps) -> APIRouter:
    """All routes of ingest."""
    router = APIRouter(prefix="/v1/loops/{loop}")

    @router.post("/events/{event}", responses=_RESPONSES)
    async def take(
        loop: str,
        event: str,
        request: Request,
        content_type: Annotated[str, Header()] = "",
        traceparent: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Take one event (a JSON object, or Avro), an array of them, or one on each line (`application/x-ndjson`).

        Answered once the log has them. Sent again, an event counts once, by its id.
        """
        try:
            body = await request.body()
            lines = content_type.partition(";")[0].strip().lower() in LINES
            trace = envelope.foreign_traceparent(((envelope.TRACEPARENT, (traceparent or "").encode()),))
            answer = await deps.door.take(Sent(loop, event, body, lines, trace), deps.now_ms())
        except IngestError as error:
            headers = {"Retry-After": "1"} if isinstance(error, LogAwayError) else None
            raise HTTPException(_STATUS[type(error)], str(error), headers) from error
        return Response(msgspec.json.encode(answer), _status(answer), media_type="application/json")

    return router


def _status(answer: Answer) -> int:
    if not answer.rejected:
        return 200
    return 207 if answer.accepted else 422
