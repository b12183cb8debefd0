"""What a service is to its host: stages, views, HTTP, and what it does for a declared loop."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter

from trimtab.contracts.control import LoopDeclared
from trimtab.runtime.bus import Declared, TopicInfo
from trimtab.runtime.projection import Projection
from trimtab.runtime.stage import Measure, Stage, View


async def nothing() -> None:
    """No preparation is needed."""


@dataclass(frozen=True, slots=True)
class LoopWork:
    """What a service does for one version of a loop.

    `views`: broadcast inputs besides those of the stages (such as HTTP alone looks at); a view that is the same object
    as in the version before goes on without being read again. `prepare` runs before the stages start (publish schemas,
    load what they need), again where the log did not answer. `started` is called when the stages of this
    version run: the moment to let HTTP see it.
    """

    stages: Sequence[Stage]
    views: Sequence[View] = ()
    prepare: Callable[[], Awaitable[None]] = nothing
    started: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Service:
    """A service, as its wiring builds it.

    `stages`, `views`: those that serve all loops, from the start. `work`: what to do for a declared loop (None:
    nothing); what it raises refuses the loop, and is shown. `ended`: a loop has ended and its stages have stopped.
    `resources` are entered, in order, before anything runs. `projections` and `background` run until the end;
    a failure of theirs ends the process. `ready`: reasons why the service is not ready, besides the host's own.
    `measures`: gauges of its own.
    """

    name: str
    stages: Sequence[Stage] = ()
    views: Sequence[View] = ()
    work: Callable[[LoopDeclared], LoopWork | None] | None = None
    ended: Callable[[str], None] = lambda _: None
    router: APIRouter | None = None
    resources: Sequence[AbstractAsyncContextManager[Any]] = ()
    projections: Sequence[Projection] = ()
    background: Sequence[Callable[[], Awaitable[None]]] = field(default=())
    ready: Callable[[], Sequence[str]] = lambda: ()
    measures: Callable[[], Sequence[Measure]] = lambda: ()


def declared_topics(declared: LoopDeclared) -> Declared:
    """The topics of a loop as its declaration recorded them when they were made."""
    return Declared({topic.name: TopicInfo(topic.id, topic.partitions) for topic in declared.topics})
