"""What every service says of a request that is wrong: `{"detail": …}`, a text with the field and the way out."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_TOLD = 5
_LONGEST_SHOWN = 60


def explain(app: FastAPI, service: str) -> None:
    """Have an application answer so."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _told(422, _problems(error.errors(), request.headers.get("content-type", "")))

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return _told(error.status_code, _refusal(service, request, error), error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return _told(500, f"{service} failed over this request ({type(error).__name__}); its log says how")


def _refusal(service: str, request: Request, error: StarletteHTTPException) -> str:
    """What our own code said of it; for what the router refuses, better words than its own."""
    path = request.url.path
    if error.status_code == 404 and "endpoint" not in request.scope:
        return f"{service} has no path {path}; GET /docs shows those that it has"
    if error.status_code == 405:
        return f"{path} does not take {request.method}, but {(error.headers or {}).get('Allow', 'other methods')}"
    if error.detail == "There was an error parsing the body":
        return "the body cannot be read: send JSON in UTF-8, nested no deeper than the event is"
    return error.detail


class Limits:
    """Ends a request whose body is longer than `most_bytes` before it fills the memory, and one with a NUL in its URL,
    which no database looks up.
    """

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app, self._most_bytes = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, with a body that is counted while it comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            await _told(400, "the address holds a NUL (%00)")(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._most_bytes:
                raise HTTPException(413, f"a request may hold at most {self._most_bytes} bytes: send several")
            return message

        await self._app(scope, counted, send)


def _told(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, dict(headers or {}))


def _problems(errors: Sequence[Mapping[str, Any]], content_type: str) -> str:
    if [error["loc"] for error in errors] == [("body",)] and "json" not in content_type:
        return "body: expected a JSON object; send it under the header content-type: application/json"
    told = [_problem(error) for error in errors[:MOST_TOLD]]
    return "; ".join([*told, *([f"and {len(errors) - MOST_TOLD} more"] if len(errors) > MOST_TOLD else [])])


def _problem(error: Mapping[str, Any]) -> str:
    place = ".".join(map(str, error["loc"][1:])) or str(error["loc"][0])
    match error["type"]:
        case "missing":
            return f"{place}: it is missing"
        case "extra_forbidden":
            return f"{place}: there is no such field"
        case "json_invalid":
            return f"body: no JSON at byte {place} ({error['ctx']['error']})"
    return f"{place}: expected {_expected(error)}, got {_shown(error.get('input'))}"


def _expected(error: Mapping[str, Any]) -> str:
    """What pydantic's message asks for, as a noun."""
    if error["type"] in ("model_attributes_type", "model_type", "dict_type"):
        return "a JSON object"
    message = str(error["msg"]).removeprefix("Input should be ").removeprefix("Input should ")
    return message.replace("String should have", "a text of").replace("String should match", "a text that matches")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}…"
