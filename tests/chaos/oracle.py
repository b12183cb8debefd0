"""What a loop's topics must hold after all of it, computed from what was sent, and how far they differ.

The oracle of Apache Kafka's `transactions_test.py`, with aggregates and labels on top. Pure.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl
from orders import Order, Rating
from trimtab.loops.model import Loop, Window, settling_ms

CLOSE = 1e-9
Key = str


@dataclass(frozen=True, slots=True)
class Settled:
    """An outcome. `suspect`: the stream was held when it was asked for; if that is found out later, by a revision."""

    key: Key
    revision: int
    label: float | None
    suspect: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What the topics hold at the end.

    `events`: how often each event's id stands among the accepted ones, by event. `predictions`: one row a record, with
    key and `feature <name>`. `outcomes`: by partition and offset. `live`: places of predictions and outcomes that the
    reader beside the faults has seen; `final`: those that are there now.
    """

    events: Mapping[str, Counter[Key]]
    predictions: pl.DataFrame
    outcomes: Sequence[Settled]
    live: tuple[Sequence[tuple[int, int]], ...]
    final: tuple[Sequence[tuple[int, int]], ...]


@dataclass(frozen=True, slots=True)
class Wrong:
    """The keys (ids of orders) that something is wrong with; a key stands there once for each wrong thing."""

    lost: Sequence[Key]
    doubled: Sequence[Key]
    out_of_order: Sequence[Key]
    aggregates: Sequence[Key]


def judged(loop: Loop, orders: Sequence[Order], ratings: Sequence[Rating], found: Found) -> Wrong:
    """Compare what was sent with what is there."""
    stars = by_order(ratings)
    once = Counter(one.id for one in orders)
    rated = Counter(one.order for one in ratings)
    accepted = Counter({key.removeprefix("r-"): count for key, count in found.events["rated"].items()})
    predicted = Counter(found.predictions["key"].to_list())
    revisions = Counter((one.key, one.revision) for one in found.outcomes)
    settled = Counter(one.key for one in found.outcomes)
    seen = [(Counter(now), Counter(then)) for now, then in zip(found.live, found.final, strict=True)]
    pairs = [(found.events["ordered"], once), (accepted, rated), (predicted, once)]
    return Wrong(
        lost=[
            *(key for there, due in pairs for key in (due - there).elements()),
            *(key for key in once if not settled[key]),
            *("unseen" for now, then in seen for _ in (then - now).elements()),
            *("unwritten" for now, then in seen for _ in (now - then).elements()),
        ],
        doubled=[
            *(key for there, due in pairs for key in (there - due).elements()),
            *(key for (key, _), count in revisions.items() for _ in range(count - 1)),
        ],
        out_of_order=list(disordered(found.outcomes)),
        aggregates=[*unlike(loop, orders, ratings, found.predictions), *mislabelled(once, stars, found.outcomes)],
    )


def by_order(ratings: Iterable[Rating]) -> Mapping[Key, float]:
    """The last stars of each order that has any."""
    newest: dict[Key, Rating] = {}
    for one in ratings:
        if one.order not in newest or newest[one.order].number < one.number:
            newest[one.order] = one
    return {key: one.stars for key, one in newest.items()}


def disordered(outcomes: Sequence[Settled]) -> Iterable[Key]:
    """Keys whose revisions are not 0, 1, 2 … as the log has them, or of which one follows from no correction."""
    of_key: dict[Key, list[Settled]] = defaultdict(list)
    for one in outcomes:
        of_key[one.key].append(one)
    for key, steps in of_key.items():
        numbered = [one.revision for one in steps] == list(range(len(steps)))
        if not numbered or not all(follows(before, after) for before, after in pairwise(steps)):
            yield key


def follows(before: Settled, after: Settled) -> bool:
    """Whether a revision says something new: more stars, or as many of an ask that was or was not suspect."""
    if before.label == after.label:
        return before.suspect != after.suspect
    return after.label is not None and (before.label is None or before.label < after.label)


def mislabelled(orders: Iterable[Key], stars: Mapping[Key, float], outcomes: Sequence[Settled]) -> Iterable[Key]:
    """Keys whose last outcome is not their last label."""
    last = {one.key: one.label for one in outcomes}
    return (key for key in orders if key in last and last[key] != stars.get(key))


def unlike(loop: Loop, orders: Sequence[Order], ratings: Sequence[Rating], predictions: pl.DataFrame) -> Iterable[Key]:
    """Keys that were predicted from other features than those that follow from the events."""
    due = features(loop, orders, ratings)
    for row in predictions.iter_rows(named=True):
        want = due.get(row["key"], {})
        if any(not same(row[f"feature {name}"], value) for name, value in want.items()):
            yield row["key"]


def same(one: float | None, other: float | None) -> bool:
    """Equal, but for the order in which floats were added."""
    return one == other if one is None or other is None else abs(one - other) <= CLOSE * max(1.0, abs(other))


def features(
    loop: Loop, orders: Sequence[Order], ratings: Sequence[Rating]
) -> Mapping[Key, Mapping[str, float | None]]:
    """The features of each order, from the events alone: a count and a sum over windows that end on a grain."""
    groups = {group.name: group for group in loop.features.groups}
    history = {
        "customer": Moments((one.customer, one.at_ms, one.price) for one in orders),
        "rated": Moments((one.customer, one.at_ms, one.stars) for one in ratings),
    }
    due: dict[Key, dict[str, float | None]] = {}
    for one in orders:
        due[one.id] = {"price": one.price}
        for name, group in groups.items():
            for window in group.windows:
                count, total = history[name].within(one.customer, one.at_ms, window, group.grain_ms)
                due[one.id] |= {f"{name}_n_{window.name}": count, f"{name}_spent_{window.name}": total}
    return {key: {name: value[name] for name in loop.features.names} for key, value in due.items()}


class Moments:
    """When something happened to each customer, and how much."""

    def __init__(self, events: Iterable[tuple[str, int, float]]) -> None:
        grouped: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for customer, at_ms, amount in events:
            grouped[customer].append((at_ms, amount))
        ordered = {customer: sorted(some) for customer, some in grouped.items()}
        self._times = {name: np.array([at_ms for at_ms, _ in some]) for name, some in ordered.items()}
        self._amounts = {name: [amount for _, amount in some] for name, some in ordered.items()}

    def within(self, customer: str, at_ms: int, window: Window, grain_ms: int) -> tuple[float, float | None]:
        """How often, and how much in all; nothing at all is no sum."""
        if customer not in self._times:
            return 0.0, None
        end_ms = (at_ms - settling_ms(grain_ms) - window.ago_ms) // grain_ms * grain_ms
        first, last = np.searchsorted(self._times[customer], [end_ms - window.width_ms, end_ms])
        amounts = self._amounts[customer][first:last]
        return float(len(amounts)), sum(amounts) if amounts else None
