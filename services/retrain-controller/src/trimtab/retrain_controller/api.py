"""HTTP: a person's wish into the log, and what was decided."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field

from trimtab.contracts.control import RetrainAsked, RetrainDeclined, RetrainRequested
from trimtab.contracts.times import Instant
from trimtab.retrain_controller.core.journal import Answer, Cursor, Journal
from trimtab.runtime.control import written
from trimtab.runtime.edge import Edge
from trimtab.runtime.errors import EdgeAwayError

SOURCE = "retrain-controller.http"
NO_NUL = r"^[^\x00]*$"
"""As the schema of the event says."""
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]
CURSOR = re.compile(r"(-?\d{1,18})~(.+)")


class AskBody(BaseModel):
    """A wish. `ask_id`: makes a repeated call the same wish; left out: a new one each time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Line
    note: Annotated[str | None, Field(max_length=2000, pattern=NO_NUL)] = None
    ask_id: Line | None = None


class DecisionFacts(BaseModel):
    """A cause that was followed or declined. `request_id`: of the retrain; null when declined."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    at_ms: Annotated[Instant, Field(alias="at")]
    decision: Literal["requested", "declined"]
    cause: dict[str, object]
    request_id: str | None = None
    champion_version: int | None = None
    reason: str | None = None
    until_ms: Annotated[Instant | None, Field(alias="until")] = None
    detail: str | None = None


class AskFacts(BaseModel):
    """What became of a wish: `pending` until the controller has read it."""

    model_config = ConfigDict(frozen=True)

    loop: str
    ask_id: str
    state: Literal["pending", "requested", "declined"]
    decision: DecisionFacts | None = None


class DecisionPage(BaseModel):
    """Newest first. `next`: pass it as `before` to get those that follow; null at the end."""

    model_config = ConfigDict(frozen=True)

    items: list[DecisionFacts]
    next: str | None


@dataclass(frozen=True, slots=True)
class Deps:
    """What the API works with. `now_ms` and `new_id` are for wishes that bring no id of their own."""

    journal: Journal
    edge: Edge
    now_ms: Callable[[], int]
    new_id: Callable[[], str]


def create_router(deps: Deps) -> APIRouter:
    """All routes of the controller."""
    router = APIRouter(prefix="/v1/loops/{loop}")

    @router.post("/retrain", status_code=202)
    async def retrain(loop: str, body: AskBody) -> AskFacts:
        """202: recorded. What became of it is at …/asks/{ask_id}, within moments."""
        _require_loop(deps.journal, loop)
        ask_id = body.ask_id or deps.new_id()
        wish = RetrainAsked(loop=loop, at_ms=deps.now_ms(), ask_id=ask_id, by=body.by, note=body.note)
        try:
            await deps.edge.send([written(wish, id=ask_id, source=SOURCE, trace=None)])
        except EdgeAwayError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
        return AskFacts(loop=loop, ask_id=ask_id, state="pending")

    @router.get("/asks/{ask_id}")
    async def ask(loop: str, ask_id: str) -> AskFacts:
        wish, answer = deps.journal.ask(loop, ask_id)
        if wish is None and answer is None:
            _require_loop(deps.journal, loop)
            raise HTTPException(404, f"loop {loop!r} has no wish {ask_id!r} (yet)")
        if answer is None:
            return AskFacts(loop=loop, ask_id=ask_id, state="pending")
        facts = _facts(answer)
        return AskFacts(loop=loop, ask_id=ask_id, state=facts.decision, decision=facts)

    @router.get("/decisions")
    async def decisions(
        loop: str,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        before: Annotated[str | None, Query(description="the last page's `next`")] = None,
    ) -> DecisionPage:
        """Every retrain that was requested or declined, and why."""
        found, following = deps.journal.decisions(loop, limit, _cursor(before))
        if not found and before is None:
            _require_loop(deps.journal, loop)
        items = [_facts(decision.answer) for decision in found]
        return DecisionPage(items=items, next=None if following is None else f"{following[0]}~{following[1]}")

    return router


def _facts(answer: Answer) -> DecisionFacts:
    cause = answer.cause.model_dump(mode="json")
    match answer:
        case RetrainRequested():
            return DecisionFacts(
                at_ms=answer.at_ms,
                decision="requested",
                cause=cause,
                request_id=answer.request_id,
                champion_version=answer.champion_version,
            )
        case RetrainDeclined():
            return DecisionFacts(
                at_ms=answer.at_ms,
                decision="declined",
                cause=cause,
                reason=answer.reason,
                until_ms=answer.until_ms,
                detail=answer.detail,
            )


def _cursor(text: str | None) -> Cursor | None:
    if text is None:
        return None
    found = CURSOR.fullmatch(text)
    if found is None:
        raise HTTPException(422, f"before={text!r} is no cursor: pass the `next` of the page before")
    return int(found[1]), found[2]


def _require_loop(journal: Journal, loop: str) -> None:
    if not journal.has_loop(loop):
        raise HTTPException(404, f"no loop {loop!r} is declared; `trimtab loops` lists those that are")
