"""What a new declaration changes of the running one, and what that means."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trimtab.contracts import topics
from trimtab.contracts.resolution import unreadable
from trimtab.loops.model import Features, Loop

Verb = Literal["add", "remove", "change", "refuse"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `what`: "feature card_n_24h"; `meaning`: what an apply does about it."""

    verb: Verb
    what: str
    meaning: str


def compare(running: Loop | None, new: Loop) -> Sequence[Change]:
    """All differences, those that an apply refuses first; `running` None: the loop is not declared."""
    if running is None:
        return (*_topics(None, new), *_vector(None, new.features))
    return (
        *_refused(running, new),
        *_topics(running, new),
        *_events(running, new),
        *_vector(running.features, new.features),
        *_groups(running.features, new.features),
        *_label(running, new),
        *_recipe(running, new),
        *_policies(running.declaration, new.declaration),
    )


def refused(running: Loop, new: Loop) -> Sequence[Change]:
    """What of a change cannot be done."""
    return list(_refused(running, new))


def topic_names(loop: Loop) -> Sequence[str]:
    """All topics of a loop."""
    return [spec.name for spec in topics.of_loop(loop.name, list(loop.events), loop.partitions)]


def _refused(running: Loop, new: Loop) -> Iterator[Change]:
    if running.partitions != new.partitions:
        what = f"partitions {running.partitions} → {new.partitions}"
        yield Change("refuse", what, "fixed for a loop's life: keep them, or end the loop and declare it again")
    for name, event in new.events.items():
        before = running.events.get(name)
        for reason in () if before is None else unreadable(before.schema, event.schema):
            yield Change(
                "refuse",
                f"schema of {name}: {reason}",
                "events on their way could not be read: mend it, or name it anew",
            )


def _topics(running: Loop | None, new: Loop) -> Iterator[Change]:
    before = topic_names(running) if running else []
    after = topic_names(new)
    for name in after:
        if name not in before:
            yield Change("add", f"topic {name}", "created before the loop is declared")
    for name in before:
        if name not in after:
            yield Change("remove", f"topic {name}", "no longer read or written; it stays until `trimtab delete`")


def _events(running: Loop, new: Loop) -> Iterator[Change]:
    for name, event in new.events.items():
        before = running.events.get(name)
        if before is not None and before.schema != event.schema:
            yield Change("change", f"schema of {name}", "events are validated against it from then on")


def _vector(running: Features | None, new: Features) -> Iterator[Change]:
    before = running.names if running else ()
    for name in new.names:
        if name not in before:
            meaning = "in predictions from then on; no model is trained on those from before" if running else "computed"
            yield Change("add", f"feature {name}", meaning)
    for name in before:
        if name not in new.names:
            yield Change(
                "remove", f"feature {name}", "not in predictions from then on; models that take it are not served"
            )
    for name, sql in new.row.items():
        old = running.row.get(name) if running else None
        if old is not None and old != sql:
            yield Change("change", f"feature {name}", f"{old} → {sql}, from then on")


def _groups(running: Features, new: Features) -> Iterator[Change]:
    before, after = _digests(running), _digests(new)
    for name, digest in after.items():
        if name not in before:
            yield Change("add", f"group {name}", "starts empty: of events from then on")
        elif before[name] != digest:
            yield Change(
                "change", f"group {name}", "starts empty: of events from then on; what the old one held is dropped"
            )
    for name in before:
        if name not in after:
            yield Change("remove", f"group {name}", "what it held is dropped")


def _digests(features: Features) -> Mapping[str, str]:
    groups = {group.name: group.digest for group in features.groups}
    return {**groups, **{latest.name: latest.digest for latest in features.latest}}


def _label(running: Loop, new: Loop) -> Iterator[Change]:
    for key, meaning in (
        ("of", "another event decides"),
        ("by", "labels join their predictions by other fields"),
        ("within_ms", "windows that are still open close at another time"),
        ("value", "later outcomes mean something else than earlier ones"),
        ("settle", "outcomes come at another time"),
        ("mature_ms", "training and gates use rows of another age"),
    ):
        old, now = getattr(running.label, key), getattr(new.label, key)
        if old != now:
            yield Change("change", f"label {key.removesuffix('_ms')}", f"{old} → {now}: {meaning}")


def _recipe(running: Loop, new: Loop) -> Iterator[Change]:
    parts = {
        "estimator": (running.model.estimator, new.model.estimator),
        "params": (running.model.params, new.model.params),
        "calibrate": (running.model.calibrate, new.model.calibrate),
        "features": (running.features.digest, new.features.digest),
        "window": (running.train.window_ms, new.train.window_ms),
    }
    changed = [name for name, (old, now) in parts.items() if old != now]
    if changed:
        meaning = _OTHER_FEATURES if "features" in changed else _OTHER_RECIPE
        yield Change("change", f"recipe ({', '.join(changed)})", meaning)


_OTHER_FEATURES = (
    "no model takes these features yet: predictions have no score until one is trained, by itself once [train] "
    "first_after rows with them have matured; its gate has no champion to beat"
)
_OTHER_RECIPE = "the next challenger is another recipe: its gate asks for better, not for not worse"


_POLICIES = ("loop", "quality", "predict", "gate", "drift", "retrain")
_TOLD_ABOVE = {("loop", "partitions")}


def _policies(running: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for table in _POLICIES:
        before, after = running.get(table, {}), new.get(table, {})
        for key in dict.fromkeys([*before, *after]):
            old, now = before.get(key), after.get(key)
            if old != now and (table, key) not in _TOLD_ABOVE:
                yield Change("change", f"{table}.{key}", f"{_shown(old)} → {_shown(now)}")


def _shown(value: object) -> str:
    return "default" if value is None else str(value)
