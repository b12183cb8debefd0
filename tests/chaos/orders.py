"""The loop of the campaign and its endless stream of numbered events, whose truth is known.

Orders of a thousand customers ask for a prediction; some are rated later, and some ratings are corrected: a correction
has the rating's id and more stars than the one before, so that its place in the order can be told from the label.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from trimtab.cli.replay.slices import Slice
from trimtab.loops import declaration
from trimtab.loops.model import Loop

MINUTE_MS, DAY_MS = 60_000, 86_400_000
CUSTOMERS = 1_000
RATED, CORRECTED, AGAIN = 0.6, 0.15, 0.01
STEP_MS, STEP = 4 * DAY_MS, 3.0
"""So often everything is rated so much better than before: that is the drift."""
TOML = """\
[loop]
name = "orders"
task = "regression"
partitions = 3
[events]
ordered = {{ schema = "ordered.avsc", id = "order", time = "at" }}
rated = {{ schema = "rated.avsc", id = "rating", time = "at", revisions = true }}
[predict]
on = "ordered"
key = "order"
[label]
of = "rated"
by = ["order"]
within = "3h"
value = "last(stars)"
settle = "first"
[features.row]
price = "price"
[features.groups.customer]
of = "ordered"
by = ["customer"]
windows = ["6h", "7d"]
values = {{ n = "count()", spent = "sum(price)" }}
[features.groups.rated]
of = "rated"
by = ["customer"]
windows = ["1d"]
values = {{ n = "count()" }}
[model]
estimator = "sklearn.linear_model.Ridge"
metric = "mae"
[train]
first_after = {{ rows = 300 }}
window = "4d"
[gate]
holdout = "2d"
block = "1h"
watch = "12h"
baselines = []
[drift]
false_alarms = "1 per 10d"
season = "1d"
[retrain]
on = ["loss", "estimate"]
every = "{every}"
cooldown = "1h"
budget = "999 per 365d"
"""
FIELDS = {
    "ordered": '{"name": "price", "type": "double"}',
    "rated": '{"name": "rating", "type": "string"}, {"name": "stars", "type": "double"}',
}
WIDER = {**FIELDS, "ordered": FIELDS["ordered"] + ', {"name": "channel", "type": "string", "default": "web"}'}
"""The same with a field more."""
SCHEMA = """\
{{ "type": "record", "name": "{event}", "namespace": "chaos", "fields": [
  {{"name": "order", "type": "string"}},
  {{"name": "at", "type": {{"type": "long", "logicalType": "timestamp-millis"}}}},
  {{"name": "customer", "type": "string"}},
  {fields} ] }}
"""
_TIME = pl.Datetime("ms", "UTC")
_TYPES: Mapping[str, Mapping[str, pl.DataType | type[pl.DataType]]] = {
    "ordered": {"order": pl.String, "at": _TIME, "customer": pl.String, "price": pl.Float64, "channel": pl.String},
    "rated": {"order": pl.String, "at": _TIME, "customer": pl.String, "rating": pl.String, "stars": pl.Float64},
}


def declared(folder: Path, every: str, fields: Mapping[str, str] = FIELDS) -> Loop:
    """Write the declaration and read it back. `every`: how often it is retrained, besides on drift."""
    folder.mkdir(parents=True)
    (folder / declaration.FILE).write_text(TOML.format(every=every))
    for event, own in fields.items():
        (folder / f"{event}.avsc").write_text(SCHEMA.format(event=event, fields=own))
    return declaration.load(folder)


@dataclass(frozen=True, slots=True)
class Order:
    """A numbered ask. `stretch`: during which part of the campaign it was sent."""

    id: str
    at_ms: int
    customer: str
    price: float
    stretch: int

    @property
    def channel(self) -> str:
        """What the wider schema says besides: of few, something else than its default."""
        return "app" if self.id.endswith("7") else "web"


@dataclass(frozen=True, slots=True)
class Rating:
    """A label, or the correction of one (`number` above 0)."""

    order: str
    at_ms: int
    customer: str
    stars: float
    number: int

    @property
    def id(self) -> str:
        """The same for all corrections."""
        return f"r-{self.order}"


@dataclass
class Stream:
    """Mutable: it remembers all that it has given out. `stretch` is set by who makes the faults.

    `apart_ms`: event time between two orders, on average.
    """

    seed: int
    at_ms: int
    apart_ms: int
    stretch: int = 0
    orders: list[Order] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._began_ms = self.at_ms
        self._due: list[tuple[int, int, Rating]] = []
        self._made = 0

    @property
    def events(self) -> int:
        """How many have been given out, copies left out."""
        return len(self.orders) + len(self.ratings)

    def piece(self, orders: int) -> Slice:
        """So many orders, what has been rated meanwhile, and now and then an event a second time."""
        fresh = [self._order() for _ in range(orders)]
        ratings = list(self._rated(self.at_ms))
        self.orders += fresh
        self.ratings += ratings
        ordered = self._with_copies(fresh)
        return Slice(self.at_ms, {"ordered": _frame("ordered", ordered), "rated": _frame("rated", ratings)})

    def rest(self) -> Slice:
        """The ratings that are still due."""
        ratings = list(self._rated(2**62))
        self.ratings += ratings
        self.at_ms = max([self.at_ms, *(one.at_ms for one in ratings)])
        return Slice(self.at_ms, {"rated": _frame("rated", ratings)})

    def _order(self) -> Order:
        self.at_ms += int(self._rng.integers(self.apart_ms // 2, 3 * self.apart_ms // 2))
        self._made += 1
        customer, price = f"c{self._rng.integers(0, CUSTOMERS)}", round(float(self._rng.gamma(3.0, 10.0)), 2)
        made = Order(f"o{self._made}", self.at_ms, customer, price, self.stretch)
        if self._rng.random() < RATED:
            self._rate(made)
        return made

    def _rate(self, order: Order) -> None:
        level = STEP * ((order.at_ms - self._began_ms) // STEP_MS)
        stars = round(level + order.price / 10 + float(self._rng.normal(0, 0.3)), 3)
        at_ms = order.at_ms + int(self._rng.integers(10 * MINUTE_MS, 100 * MINUTE_MS))
        corrections = int(self._rng.integers(1, 3)) if self._rng.random() < CORRECTED else 0
        for number in range(1 + corrections):
            rating = Rating(order.id, at_ms, order.customer, stars + number, number)
            heapq.heappush(self._due, (at_ms, 10 * self._made + number, rating))
            at_ms += int(self._rng.integers(5 * MINUTE_MS, 20 * MINUTE_MS))

    def _rated(self, until_ms: int) -> Iterable[Rating]:
        while self._due and self._due[0][0] <= until_ms:
            yield heapq.heappop(self._due)[2]

    def _with_copies(self, fresh: Sequence[Order]) -> Sequence[Order]:
        older = self.orders[-200:]
        copies = [older[int(self._rng.integers(0, len(older)))] for _ in fresh if self._rng.random() < AGAIN]
        return [*fresh, *copies]


def _frame(event: str, rows: Sequence[Order] | Sequence[Rating]) -> pl.DataFrame:
    return pl.DataFrame([_row(row) for row in rows], schema=_TYPES[event], orient="row")


def _row(one: Order | Rating) -> dict[str, Any]:
    if isinstance(one, Order):
        told = {"order": one.id, "at": one.at_ms, "customer": one.customer, "price": one.price}
        return {**told, "channel": one.channel}
    return {"order": one.order, "at": one.at_ms, "customer": one.customer, "rating": one.id, "stars": one.stars}
