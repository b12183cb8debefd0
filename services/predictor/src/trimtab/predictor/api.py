"""HTTP: predictions by entity or with values that the caller knows, and what is deployed."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from trimtab.loops.vectors import VectorNames
from trimtab.predictor.core import Deployments, Model
from trimtab.predictor.core import Request as Ask
from trimtab.predictor.errors import FeatureTypeError, NotLoggedError, PredictorError, UnknownFeatureError

OVERRIDES = "$features"
"""The member of a request that brings values of features along; no field of an event can be called so."""
MOST_ASKS = 5_000


@dataclass(frozen=True, slots=True)
class Served:
    """A loop that is served.

    `predict` logs what it says before it says it. `refused`: deployments by sequence, and why they were not taken in.
    `parse` turns a request's fields into (key, event time, physical values).
    """

    predict: Callable[[Sequence[Ask]], Awaitable[Sequence[Mapping[str, Any]]]]
    names: VectorNames
    deployments: Callable[[], Deployments]
    refused: Callable[[], Mapping[int, str]]
    parse: Callable[[Mapping[str, Any]], tuple[str, int, Mapping[str, Any]]]


class BadRequestError(PredictorError):
    """A body that is no ask and no list of asks."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: send one ask as a JSON object with the event's fields, or a list of them")


def create_router(served: Mapping[str, Served]) -> APIRouter:
    """Routes over the loops that are served now; the mapping may change while they run."""
    router = APIRouter()

    @router.post("/v1/loops/{loop}/predictions")
    async def predict(loop: str, request: Request) -> Response:
        """Predict for one ask (an object) or many (a list), each with its features, their age and the model.

        The fields are those of the loop's asking event. `$features` beside them overrides looked-up features.
        """
        if loop not in served:
            return unknown_loop(loop, served)
        one = served[loop]
        try:
            asks, many = read_asks(one, await request.body())
            values = await one.predict(asks)
        except NotLoggedError as error:
            return failure(503, error, {"Retry-After": "1"})
        except PredictorError as error:
            return failure(422, error)
        return answer(200, {"predictions": values} if many else values[0])

    @router.get("/v1/loops/{loop}/deployment")
    async def deployment(loop: str) -> Response:
        """What is deployed: the newest deployment taken in, its champion and shadows, and what was refused and why."""
        return answer(200, deployed(served[loop])) if loop in served else unknown_loop(loop, served)

    return router


def read_asks(served: Served, body: bytes) -> tuple[Sequence[Ask], bool]:
    """The asks of a body, and whether it was a list. Raises BadRequestError, InvalidAskError, UnknownFeatureError."""
    try:
        given = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise BadRequestError(f"the body is no JSON ({error})") from error
    items = given if isinstance(given, list) else [given]
    if not items or not all(isinstance(item, dict) for item in items):
        raise BadRequestError("the body holds no ask" if not items else "an ask is a JSON object")
    if len(items) > MOST_ASKS:
        raise BadRequestError(f"{len(items)} asks in one request, at most {MOST_ASKS} are taken")
    return [read_ask(served, item) for item in items], isinstance(given, list)


def read_ask(served: Served, item: dict[str, Any]) -> Ask:
    """One ask from its JSON object."""
    overrides = item.pop(OVERRIDES, {})
    if not isinstance(overrides, dict):
        raise BadRequestError(f"{OVERRIDES} is an object with values of features")
    key, at_ms, ask = served.parse(item)
    return Ask(key, at_ms, ask, checked(served, overrides))


def checked(served: Served, overrides: Mapping[str, Any]) -> Mapping[str, float | str | None]:
    """Values of features that came with a request. Raises UnknownFeatureError, FeatureTypeError."""
    names = served.names
    for name, value in overrides.items():
        if name not in names.numbers and name not in names.categories:
            near = get_close_matches(name, [*names.numbers, *names.categories], 1)
            raise UnknownFeatureError(name, f"; did you mean {near[0]!r}?" if near else "")
        text = name in names.categories
        fits = isinstance(value, str) if text else isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not fits:
            raise FeatureTypeError(name, "text" if text else "a number", value)
    return overrides


def deployed(served: Served) -> Mapping[str, Any]:
    """The newest deployment, as JSON."""
    newest = served.deployments().newest()
    return {
        "sequence": None if newest is None else newest.sequence,
        "effective_at_ms": None if newest is None else newest.effective_at_ms,
        "champion": None if newest is None or newest.champion is None else named(newest.champion),
        "shadows": [] if newest is None else [named(model) for model in newest.shadows],
        "refused": [{"sequence": sequence, "reason": reason} for sequence, reason in sorted(served.refused().items())],
    }


def named(model: Model) -> Mapping[str, Any]:
    """A model by its version and digest."""
    return {"version": model.version, "digest": model.digest}


def unknown_loop(loop: str, served: Mapping[str, Served]) -> Response:
    """404 with the loops that there are."""
    there = ", ".join(sorted(served)) or "none is declared yet: run `trimtab apply FOLDER`"
    return answer(404, {"error": f"no loop {loop!r} is served here; loops: {there}"})


def failure(status: int, error: Exception, headers: Mapping[str, str] | None = None) -> Response:
    """An error as JSON that says what to do."""
    return answer(status, {"error": str(error)}, headers)


def answer(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """JSON; NaN and infinities, which JSON does not have, become null."""
    return Response(msgspec.json.encode(content), status, dict(headers or {}), "application/json")
