"""Which model scores which ask, and what is said about it. Pure: asks, vectors and deployments in, predictions out."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trimtab.contracts.prediction import field_name, prediction_schema
from trimtab.loops.keys import value_text
from trimtab.loops.model import Loop
from trimtab.loops.vectors import VectorNames, Vectors

Ask = Mapping[str, Any]


class Scorer(Protocol):
    """A loaded model (see `trimtab.ml.scoring.Scorer`)."""

    def score(self, vectors: Vectors, /) -> NDArray[np.float64]:
        """[n], or [n, classes]."""
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A version that can score. `classes`: of its probability columns (multiclass), else empty.

    `until_ms`: a shadow does not score asks from this event time on; None: until another deployment.
    """

    version: int
    digest: str
    classes: Sequence[str]
    scorer: Scorer
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """Which versions score asks from `effective_at_ms` on.

    `left_out`: shadows that take other features than the loop's. `trace`: the traceparent it came with.
    """

    sequence: int
    effective_at_ms: int
    champion: Model | None
    shadows: Sequence[Model]
    left_out: Sequence[int] = ()
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Deployments:
    """All deployments of a loop, by (effective_at_ms, sequence).

    `stretches`: the same in time, each again with the shadows that are left where one of its shadows ends before
    another deployment takes effect. So a shadow ends on time even if the deployment that retires it is not known yet.
    """

    ordered: tuple[Deployment, ...] = ()
    stretches: tuple[Deployment, ...] = ()

    def with_one(self, deployment: Deployment) -> "Deployments":
        """These and one more; a sequence that is known already changes nothing."""
        if any(known.sequence == deployment.sequence for known in self.ordered):
            return self
        return _in_time((*self.ordered, deployment))

    def without(self, sequence: int) -> "Deployments":
        """These, but for one: the one before it scores in its place."""
        return _in_time([known for known in self.ordered if known.sequence != sequence])

    def at(self, at_ms: int) -> Deployment | None:
        """What scores an ask at that event time: the newest that took effect by then."""
        index = bisect_right(self.stretches, at_ms, key=lambda deployment: deployment.effective_at_ms)
        return self.stretches[index - 1] if index else None

    def newest(self) -> Deployment | None:
        """The deployment with the highest sequence."""
        return max(self.ordered, key=lambda deployment: deployment.sequence, default=None)

    def runs(self, at_ms: NDArray[np.int64]) -> Iterator[tuple[Deployment | None, NDArray[np.intp]]]:
        """The asks [n] of each deployment that has any."""
        starts = np.array([deployment.effective_at_ms for deployment in self.stretches], dtype=np.int64)
        chosen = np.searchsorted(starts, at_ms, side="right") - 1
        for index in np.unique(chosen):
            yield self.stretches[index] if index >= 0 else None, np.flatnonzero(chosen == index)


def _in_time(deployments: Iterable[Deployment]) -> Deployments:
    ordered = tuple(sorted(deployments, key=_place))
    ends_ms = [*(later.effective_at_ms for later in ordered[1:]), None]
    stretches = (part for one, end_ms in zip(ordered, ends_ms, strict=False) for part in _stretches(one, end_ms))
    return Deployments(ordered, tuple(stretches))


def _stretches(deployment: Deployment, end_ms: int | None) -> Iterator[Deployment]:
    """A deployment with all its shadows, and with those that are left after each, up to the next one's time."""
    begins_ms = deployment.effective_at_ms
    untils_ms = {one.until_ms for one in deployment.shadows if one.until_ms is not None}
    inside_ms = {until for until in untils_ms if begins_ms < until and (end_ms is None or until < end_ms)}
    for start_ms in (begins_ms, *sorted(inside_ms)):
        left = [one for one in deployment.shadows if one.until_ms is None or one.until_ms > start_ms]
        yield replace(deployment, effective_at_ms=start_ms, shadows=left)


Deployed = Callable[[NDArray[np.int64]], Deployments]
"""What is deployed now, whose models for asks at these times [n] are in memory."""


def _place(deployment: Deployment) -> tuple[int, int]:
    return deployment.effective_at_ms, deployment.sequence


@dataclass(frozen=True, slots=True)
class Said:
    """What one model says of one ask: binary P(true), regression the value, multiclass the likeliest class."""

    score: float
    class_: str | None = None
    probabilities: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """What a deployment says of one ask. `shadows`: in the deployment's order."""

    deployment: Deployment | None = None
    champion: Said | None = None
    shadows: Sequence[Said] = ()


NOT_SCORED = Scored()


def score(deployments: Deployments, at_ms: NDArray[np.int64], vectors: Vectors) -> list[Scored]:
    """Score asks at [n] with the vectors [n], each by the deployment of its time and by that one alone."""
    scored = [NOT_SCORED] * len(at_ms)
    for deployment, rows in deployments.runs(at_ms):
        if deployment is None:
            continue
        part = vectors if len(rows) == len(at_ms) else vectors.take(rows)
        champion = [None] * len(rows) if deployment.champion is None else said(deployment.champion, part)
        shadows = [said(model, part) for model in deployment.shadows]
        for place, row in enumerate(rows.tolist()):
            scored[row] = Scored(deployment, champion[place], [column[place] for column in shadows])
    return scored


def said(model: Model, vectors: Vectors) -> list[Said]:
    """One model's word on each vector."""
    scores = model.scorer.score(vectors)
    if scores.ndim == 1:
        return [Said(value) for value in scores.tolist()]
    best = scores.argmax(axis=1).tolist()
    rows = scores.tolist()
    return [Said(row[i], model.classes[i], row) for i, row in zip(best, rows, strict=True)]


@dataclass(frozen=True, slots=True)
class Writer:
    """Turns scored vectors into the values of a loop's prediction schema."""

    loop: Loop
    schema: Mapping[str, Any]
    fields: Sequence[str]
    aged: Sequence[str]
    origin: str

    def values(
        self,
        asks: Sequence[Ask],
        at_ms: Sequence[int],
        as_of_ms: Sequence[int],
        vectors: Vectors,
        scored: Sequence[Scored],
    ) -> Iterator[dict[str, Any]]:
        """One value per ask, ready to be encoded."""
        key, by = self.loop.predict.key, self.loop.label.by
        rows = zip(asks, at_ms, as_of_ms, feature_rows(vectors), age_rows(vectors), scored, strict=True)
        for ask, at, as_of, features, ages, scored_by in rows:
            yield {
                "key": value_text(ask[key]),
                "by": [value_text(ask[name]) for name in by],
                "at_ms": at,
                "features": dict(zip(self.fields, features, strict=True)),
                "ages_ms": dict(zip(self.aged, ages, strict=True)),
                "features_as_of_ms": as_of,
                "features_digest": self.loop.features.digest,
                **_verdict(scored_by),
                "origin": self.origin,
                "declaration_version": self.loop.version,
            }


def writer(loop: Loop, names: VectorNames, origin: str) -> Writer:
    """The writer of a loop; `names` are those of its vectors."""
    columns = [*names.numbers, *names.categories]
    schema = prediction_schema(loop.name, loop.features.names, categorical=names.categories, aged=names.aged)
    return Writer(loop, schema, [field_name(n) for n in columns], [field_name(n) for n in names.aged], origin)


def _verdict(by: Scored) -> dict[str, Any]:
    deployment, champion = by.deployment, by.champion
    model = None if deployment is None else deployment.champion
    return {
        "score": None if champion is None else champion.score,
        "class": None if champion is None else champion.class_,
        "probabilities": [] if champion is None else champion.probabilities,
        "arm": "none" if champion is None else "champion",
        "version": None if model is None else model.version,
        "model_digest": None if model is None else model.digest,
        "deployment": None if deployment is None else deployment.sequence,
        "shadows": []
        if deployment is None
        else [_shadow(m, s) for m, s in zip(deployment.shadows, by.shadows, strict=True)],
    }


def _shadow(model: Model, word: Said) -> dict[str, Any]:
    return {
        "version": model.version,
        "model_digest": model.digest,
        "score": word.score,
        "class": word.class_,
        "probabilities": word.probabilities,
    }


def feature_rows(vectors: Vectors) -> list[list[Any]]:
    """The vectors' rows, numbers first, None where missing."""
    numbers = vectors.numbers.astype(object)
    numbers[np.isnan(vectors.numbers)] = None
    rows: list[list[Any]] = np.hstack([numbers, vectors.categories]).tolist()
    return rows


def age_rows(vectors: Vectors) -> list[list[int | None]]:
    """The ages of looked-up values, None where there was none."""
    ages = vectors.ages_ms.astype(object)
    ages[vectors.ages_ms < 0] = None
    rows: list[list[int | None]] = ages.tolist()
    return rows


@dataclass(frozen=True, slots=True)
class Request:
    """One ask over HTTP, parsed. `overrides`: features whose value comes with the request."""

    key: str
    at_ms: int
    ask: Ask
    overrides: Mapping[str, float | str | None] = field(default_factory=dict)


def overridden(vectors: Vectors, requests: Sequence[Request], names: VectorNames) -> Vectors:
    """The vectors with the values that came with the requests in place of the looked-up ones."""
    if not any(request.overrides for request in requests):
        return vectors
    numbers, categories = vectors.numbers.copy(), vectors.categories.copy()
    number_at = {name: i for i, name in enumerate(names.numbers)}
    category_at = {name: i for i, name in enumerate(names.categories)}
    for row, request in enumerate(requests):
        for name, value in request.overrides.items():
            if name in category_at:
                categories[row, category_at[name]] = value
            else:
                numbers[row, number_at[name]] = np.nan if value is None else value
    return vectors.replaced(numbers, categories)


Assemble = Callable[[Sequence[Ask], NDArray[np.int64]], Vectors]
