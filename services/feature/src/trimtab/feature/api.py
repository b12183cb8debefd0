"""HTTP: the online values of one key, as a prediction at that time would see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from fastapi import APIRouter, HTTPException, Query, Response

from trimtab.contracts import times
from trimtab.contracts.errors import BadTimeError
from trimtab.feature.errors import BadInstantError, FeatureError, KeyPartsError, UnknownGroupError, UnknownLoopError
from trimtab.loops.groups import TileGroup
from trimtab.loops.keys import key_text
from trimtab.loops.online import OnlineStore
from trimtab.loops.vectors import features_of


@dataclass(frozen=True, slots=True)
class Served:
    """A loop whose values are served."""

    groups: Mapping[str, TileGroup]
    store: OnlineStore


def create_router(served: Mapping[str, Served]) -> APIRouter:
    """Routes over the loops that are served now; the mapping may change while they run."""
    router = APIRouter()

    @router.get("/v1/loops/{loop}/features/{group}")
    async def features(loop: str, group: str, key: Annotated[list[str], Query()], at: str | None = None) -> Response:
        """Values and ages of a group for a key, strictly before `at` (RFC 3339; default: just after the newest event).

        A group by several fields takes `key` several times, in the order of its `by`.
        """
        try:
            content = looked_up(served, loop, group, key, at)
        except (UnknownLoopError, UnknownGroupError) as error:
            raise HTTPException(404, str(error)) from error
        except FeatureError as error:
            raise HTTPException(422, str(error)) from error
        return Response(msgspec.json.encode(content), media_type="application/json")

    return router


def looked_up(served: Mapping[str, Served], loop: str, group: str, key: list[str], at: str | None) -> dict[str, Any]:
    """The answer to a look-up. Raises a FeatureError."""
    if loop not in served:
        raise UnknownLoopError(loop, sorted(served))
    groups, store = served[loop].groups, served[loop].store
    if group not in groups:
        raise UnknownGroupError(loop, group, sorted(groups))
    found = groups[group]
    if len(key) != len(found.by):
        raise KeyPartsError(group, found.by, len(key))
    at_ms = instant(at, found, store)
    finished = store.finish(found.digest, [key_text(key)], np.array([at_ms], dtype=np.int64))
    return {
        "loop": loop,
        "group": group,
        "key": dict(zip(found.by, key, strict=True)),
        "at": times.text(at_ms),
        "features": {
            feature: {"value": plain(finished.values[value][0, window]), "age_ms": age(finished.ages_ms[0, window])}
            for value, window, feature in features_of(found)
        },
    }


def instant(text: str | None, group: TileGroup, store: OnlineStore) -> int:
    """The time asked for; without one, the first at which the newest event of the loop counts."""
    if text is None:
        return ((store.newest_ms or 0) // group.grain_ms + 1) * group.grain_ms + group.settling_ms
    try:
        at_ms = times.parse(text)
    except BadTimeError as error:
        raise BadInstantError(text) from error
    if not times.EARLIEST_MS <= at_ms <= times.LATEST_MS:
        raise BadInstantError(text)
    return at_ms


def plain(value: Any) -> float | str | None:
    """A value as JSON has it."""
    if value is None or isinstance(value, str):
        return value
    return None if value != value else float(value)


def age(age_ms: Any) -> int | None:
    """An age as JSON has it."""
    return None if age_ms < 0 else int(age_ms)
