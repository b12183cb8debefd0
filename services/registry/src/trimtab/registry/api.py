"""HTTP: reads of the projection, commands into the log, models by digest."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from trimtab.contracts.control import RegistryCommand
from trimtab.registry.core.answers import (
    CommandFacts,
    DeploymentFacts,
    LoopSummary,
    Page,
    VersionDetail,
    VersionSummary,
)
from trimtab.runtime.errors import EdgeAwayError
from trimtab.store.blobs import Blobs
from trimtab.store.errors import BadDigestError, BlobMissingError, DatabaseAwayError, StoreError

LARGEST_NUMBER = 2**31 - 1
"""Of a version or a deployment: what a database's integer holds."""
NO_NUL = r"^[^\x00]*$"
"""PostgreSQL keeps no text with a NUL in it."""
Limit = Annotated[int, Query(ge=1, le=500, description="how many at most")]
Number = Annotated[int | None, Query(ge=1, le=LARGEST_NUMBER, description="the last page's `next`")]
Text = Annotated[str | None, Query(min_length=1, max_length=200, description="the last page's `next`")]
VersionNumber = Annotated[int, Path(ge=1, le=LARGEST_NUMBER)]
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]


class CommandBody(BaseModel):
    """A command. `command_id`: makes a repeated call the same command; left out: a new one each time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["promote", "rollback", "retire_shadow"]
    version: Annotated[int | None, Field(ge=1, le=LARGEST_NUMBER)] = None
    by: Line
    note: Annotated[str | None, Field(max_length=2000, pattern=NO_NUL)] = None
    command_id: Line | None = None


class Catalogue(Protocol):
    """Loops and their versions. Lists come in pages; `after` is the last page's `next`."""

    def has_loop(self, loop: str) -> bool:
        """Whether the loop was ever declared."""

    def loops(self, limit: int, after: str | None) -> Page[LoopSummary]:
        """By name."""

    def versions(self, loop: str, limit: int, after: int | None) -> Page[VersionSummary]:
        """Newest first."""

    def version(self, loop: str, version: int) -> VersionDetail | None:
        """With its whole lineage; None where there is none of that number."""


class History(Protocol):
    """What happened to versions, and which blobs are theirs."""

    def deployments(self, loop: str, limit: int, after: int | None) -> Page[DeploymentFacts]:
        """Newest first."""

    def commands(self, loop: str, limit: int, after: str | None) -> Page[CommandFacts]:
        """By id."""

    def command(self, loop: str, command_id: str) -> CommandFacts | None:
        """One command; None where none of that id is known."""

    def is_model(self, digest: str) -> bool:
        """Whether a blob is a model of some version: others are not given out."""


class Commands(Protocol):
    """The way of commands into the log."""

    async def settle(self, command: RegistryCommand) -> CommandFacts | None:
        """Record a command and wait for its answer; None when it was recorded but is not answered in time.

        Raises EdgeAwayError.
        """


@dataclass(frozen=True, slots=True)
class Deps:
    """What the API works with. `now_ms` and `new_id` are for commands that bring no id or time of their own."""

    catalogue: Catalogue
    history: History
    commands: Commands
    blobs: Blobs
    now_ms: Callable[[], int]
    new_id: Callable[[], str]


class Route(APIRoute):
    """A route that says so when the database is away."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As of every route; 503 without a database."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except DatabaseAwayError as error:
                raise HTTPException(503, str(error), {"Retry-After": "1"}) from error

        return handled


def create_router(deps: Deps) -> APIRouter:
    """All routes of the registry."""
    router = APIRouter(prefix="/v1", route_class=Route)
    _add_lists(router, deps.catalogue, deps.history)
    _add_commands(router, deps)
    _add_blobs(router, deps)
    return router


def _add_lists(router: APIRouter, catalogue: Catalogue, history: History) -> None:
    @router.get("/loops")
    def loops(limit: Limit = 50, after: Text = None) -> Page[LoopSummary]:
        return catalogue.loops(limit, after)

    @router.get("/loops/{loop}/versions")
    def versions(loop: str, limit: Limit = 50, after: Number = None) -> Page[VersionSummary]:
        _require_loop(catalogue, loop)
        return catalogue.versions(loop, limit, after)

    @router.get("/loops/{loop}/versions/{version}")
    def version(loop: str, version: VersionNumber) -> VersionDetail:
        found = catalogue.version(loop, version)
        if found is None:
            raise HTTPException(
                404, f"loop {loop!r} has no version {version}; GET /v1/loops/{loop}/versions lists them"
            )
        return found

    @router.get("/loops/{loop}/deployments")
    def deployments(loop: str, limit: Limit = 50, after: Number = None) -> Page[DeploymentFacts]:
        _require_loop(catalogue, loop)
        return history.deployments(loop, limit, after)


def _add_commands(router: APIRouter, deps: Deps) -> None:
    @router.post("/loops/{loop}/commands", responses={202: {"model": CommandFacts}, 409: {"model": CommandFacts}})
    async def command(loop: str, body: CommandBody, response: Response) -> CommandFacts:
        """200: done. 409: refused, with the reason. 202: recorded, not decided yet; ask for it by its id."""
        await asyncio.to_thread(_require_loop, deps.catalogue, loop)
        wish = RegistryCommand(
            loop=loop,
            at_ms=deps.now_ms(),
            command_id=body.command_id or deps.new_id(),
            kind=body.kind,
            version=body.version,
            by=body.by,
            note=body.note,
        )
        try:
            answer = await deps.commands.settle(wish)
        except EdgeAwayError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
        if answer is None:
            response.status_code = 202
            return _undecided(wish)
        response.status_code = 409 if answer.outcome == "refused" else 200
        return answer

    @router.get("/loops/{loop}/commands")
    def commands(loop: str, limit: Limit = 50, after: Text = None) -> Page[CommandFacts]:
        _require_loop(deps.catalogue, loop)
        return deps.history.commands(loop, limit, after)

    @router.get("/loops/{loop}/commands/{command_id}")
    def one_command(loop: str, command_id: str) -> CommandFacts:
        found = deps.history.command(loop, command_id)
        if found is None:
            raise HTTPException(404, f"loop {loop!r} has no command {command_id!r} (yet)")
        return found


def _add_blobs(router: APIRouter, deps: Deps) -> None:
    @router.get("/blobs/{digest}", response_class=Response)
    def blob(digest: str) -> Response:
        """The bytes of a model, verified, by the digest that its version names."""
        if not deps.history.is_model(digest):
            raise HTTPException(404, f"no version has a model {digest!r}")
        try:
            data = deps.blobs.get(digest)
        except (BadDigestError, BlobMissingError) as error:
            raise HTTPException(404, str(error)) from error
        except StoreError as error:
            raise HTTPException(503, str(error)) from error
        headers = {"ETag": f'"{digest}"', "Cache-Control": "public, max-age=31536000, immutable"}
        return Response(data, media_type="application/octet-stream", headers=headers)


def _require_loop(catalogue: Catalogue, loop: str) -> None:
    if not catalogue.has_loop(loop):
        raise HTTPException(404, f"no loop {loop!r} is declared; GET /v1/loops lists those that are")


def _undecided(wish: RegistryCommand) -> CommandFacts:
    return CommandFacts(
        loop=wish.loop,
        command_id=wish.command_id,
        at_ms=wish.at_ms,
        kind=wish.kind,
        version=wish.version,
        by=wish.by,
        note=wish.note,
        outcome=None,
        detail="recorded, not decided yet",
        sequence=None,
    )
