"""HTTP: predictions by entity or with values that the caller knows, and what is deployed."""

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import APIRouter, HTTPException, Request, Response

from trimtab.loops.incoming.candidates import LONGEST_TEXT
from trimtab.loops.incoming.unreadable import why
from trimtab.loops.names import suggestion
from trimtab.loops.vectors import VectorNames
from trimtab.predictor.core import Deployments, Model
from trimtab.predictor.core import Request as Ask
from trimtab.predictor.errors import FeatureTypeError, NotLoggedError, PredictorError, UnknownFeatureError

OVERRIDES = "$features"
"""The member of a request that brings values of features along; no field of an event can be called so."""
MOST_ASKS = 5_000
LARGEST = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Served:
    """A loop that is served.

    `predict` logs what it says before it says it. `refused`: deployments by sequence, and why they were not taken in.
    `loading`: those whose models are being loaded. `parse` turns each ask's fields into (key, event time, physical
    values).
    """

    predict: Callable[[Sequence[Ask]], Awaitable[Sequence[Mapping[str, Any]]]]
    names: VectorNames
    deployments: Callable[[], Deployments]
    refused: Callable[[], Mapping[int, str]]
    loading: Callable[[], Sequence[int]]
    parse: Callable[[Sequence[Mapping[str, Any]]], Sequence[tuple[str, int, Mapping[str, Any]]]]


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

        Where no model scores, `score` is null and `unscored` says why.
        The fields are those of the loop's asking event. `$features` beside them overrides looked-up features.
        """
        one = of_loop(served, loop)
        try:
            asks, many = read_asks(one, await request.body())
            values = [explained(one, value) for value in await one.predict(asks)]
        except NotLoggedError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
        except PredictorError as error:
            raise HTTPException(422, str(error)) from error
        return answer({"predictions": values} if many else values[0])

    @router.get("/v1/loops/{loop}/deployment")
    async def deployment(loop: str) -> Response:
        """The newest deployment that was taken in, its champion and shadows; what is loading, what is refused and why.

        `left_out`: shadows that cannot answer, as they take other features than the loop has now.
        """
        return answer(deployed(of_loop(served, loop)))

    return router


def of_loop(served: Mapping[str, Served], loop: str) -> Served:
    """A loop that is served; 404 with those that there are for any other."""
    if loop not in served:
        there = (
            f"right: {suggestion(loop, sorted(served))}"
            if served
            else "none is declared yet: run `trimtab apply FOLDER`"
        )
        raise HTTPException(404, f"no loop {loop!r} is served here; {there}")
    return served[loop]


def read_asks(served: Served, body: bytes) -> tuple[Sequence[Ask], bool]:
    """The asks of a body, and whether it was a list. Raises BadRequestError, InvalidAskError, UnknownFeatureError."""
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError(f"the body is no JSON ({why(body)})") from error
    items = given if isinstance(given, list) else [given]
    if not items or not all(isinstance(item, dict) for item in items):
        raise BadRequestError("the body holds no ask" if not items else "an ask is a JSON object")
    if len(items) > MOST_ASKS:
        raise BadRequestError(f"{len(items)} asks in one request, at most {MOST_ASKS} are taken")
    overrides = [checked(served, item.pop(OVERRIDES, {})) for item in items]
    parsed = served.parse(items)
    return [Ask(*one, over) for one, over in zip(parsed, overrides, strict=True)], isinstance(given, list)


def checked(served: Served, overrides: object) -> Mapping[str, float | str | None]:
    """Values of features that came with an ask. Raises BadRequestError, UnknownFeatureError, FeatureTypeError."""
    if not isinstance(overrides, dict):
        raise BadRequestError(f"{OVERRIDES} is an object with values of features")
    names = served.names
    for name in overrides:
        if name not in names.numbers and name not in names.categories:
            raise UnknownFeatureError(name, suggestion(name, [*names.numbers, *names.categories]))
    return {name: fit(name, value, name in names.categories) for name, value in overrides.items()}


def fit(name: str, value: object, is_text: bool) -> float | str | None:
    """A feature's value. Raises FeatureTypeError."""
    if value is None or (is_text and isinstance(value, str) and len(value) <= LONGEST_TEXT):
        return value
    if not is_text and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return float(value)
    raise FeatureTypeError(name, f"text of at most {LONGEST_TEXT} characters" if is_text else "a number", value)


def explained(served: Served, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """An answer; one without a score says why."""
    if value["arm"] != "none":
        return value
    refused = served.refused()
    why = (
        f"deployment {max(refused)} is refused: {refused[max(refused)]}" if refused else "no model was deployed by then"
    )
    return {**value, "unscored": why}


def deployed(served: Served) -> Mapping[str, Any]:
    """The newest deployment, as JSON."""
    newest = served.deployments().newest()
    return {
        "sequence": None if newest is None else newest.sequence,
        "effective_at_ms": None if newest is None else newest.effective_at_ms,
        "champion": None if newest is None or newest.champion is None else named(newest.champion),
        "shadows": [] if newest is None else [named(model) for model in newest.shadows],
        "left_out": [] if newest is None else newest.left_out,
        "loading": served.loading(),
        "refused": [{"sequence": sequence, "reason": reason} for sequence, reason in sorted(served.refused().items())],
    }


def named(model: Model) -> Mapping[str, Any]:
    """A model by its version and digest."""
    return {"version": model.version, "digest": model.digest}


def answer(content: Mapping[str, Any]) -> Response:
    """JSON; NaN and infinities, which JSON does not have, become null."""
    return Response(msgspec.json.encode(content), media_type="application/json")
