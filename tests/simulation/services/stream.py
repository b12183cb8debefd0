"""The loop that is simulated and what happens in it, hour by hour: rides whose fares begin to rise.

A ride asks for its fare; most are paid later, and some payments are corrected under their own id. Copies of both come
now and then. What happens is the same in every run; how it gets into the log is not.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from trimtab.loops import declaration
from trimtab.loops.declaration.digests import declaration_digest
from trimtab.loops.model import Loop

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
BEGAN_MS = 1_800_000_000_000
"""The simulated wall clock at the start of a run."""
START_MS = 1_799_971_200_000 - 24 * HOUR_MS * 10
"""Event time of hour 0: days before that, so that no ask counts as live."""
RIDES, RIDERS = 60, 6
TURNS_AT = 20
"""From this hour on rides cost more, and more with every hour."""
RISE = 4.0
COOLDOWN_MS = 3 * HOUR_MS
TOML = """
[loop]
name = "rides"
task = "regression"
partitions = 2
lateness = "1m"
[events]
ride = { schema = "ride.avsc", id = "ride", time = "at" }
paid = { schema = "paid.avsc", id = "payment", time = "at", revisions = true }
[quality]
hold_when = { rejected = "50%" }
[predict]
on = "ride"
key = "ride"
[label]
of = "paid"
by = ["ride"]
within = "1h"
value = "last(fare)"
settle = "first"
[features.row]
km = "km"
[features.groups.rider]
of = "ride"
by = ["rider"]
windows = ["2h"]
values = { n = "count()", km = "sum(km)" }
[model]
estimator = "sklearn.linear_model.Ridge"
metric = "mae"
[train]
first_after = { rows = 600 }
fit_time = "1h"
[gate]
holdout = "8h"
block = "1h"
watch = "1h"
baselines = []
[drift]
false_alarms = "1 per 12h"
weights = { loss = 0.9, estimate = 0.1 }
season = "1h"
[retrain]
on = ["loss"]
grown = 50.0
cooldown = "3h"
budget = "999 per 365d"
"""
_INSTANT = {"type": "long", "logicalType": "timestamp-millis"}
_FIELDS = {"ride": {"rider": "string", "km": "double"}, "paid": {"payment": "string", "fare": "double"}}


@cache
def loop() -> Loop:
    """The loop, declared."""
    data = tomllib.loads(TOML)
    schemas = {name: _schema(name, fields) for name, fields in _FIELDS.items()}
    digest = declaration_digest(data, schemas)
    return declaration.from_declared(data, schemas, version=1, partitions=2, digest=digest)


def _schema(name: str, fields: Mapping[str, str]) -> Mapping[str, Any]:
    typed = {"ride": "string", "at": _INSTANT, **fields}
    return {"type": "record", "name": name, "fields": [{"name": n, "type": kind} for n, kind in typed.items()]}


@dataclass(frozen=True, slots=True)
class Ride:
    """An ask."""

    ride: str
    at: int
    rider: str
    km: float

    @property
    def id(self) -> str:
        """By which copies are told."""
        return self.ride


@dataclass(frozen=True, slots=True)
class Paid:
    """A label; corrections have the payment of what they correct."""

    ride: str
    at: int
    payment: str
    fare: float

    @property
    def id(self) -> str:
        """By which copies and corrections are told."""
        return self.payment


Event = Ride | Paid


def topic_of(event: Event) -> str:
    """The name of its kind."""
    return "ride" if isinstance(event, Ride) else "paid"


def body(event: Event) -> bytes:
    """As users write it."""
    return json.dumps({name: getattr(event, name) for name in event.__slots__}).encode()


@cache
def happened(hours: int) -> Sequence[Event]:
    """Everything up to an hour, in the order of event time."""
    return sorted((one for hour in range(hours) for one in _hour(hour)), key=lambda one: (one.at, one.id))


def between(first: int, end: int) -> Iterator[Event]:
    """What happens from one hour to another (labels of the last rides come later)."""
    return (one for one in happened(end) if START_MS + first * HOUR_MS <= one.at < START_MS + end * HOUR_MS)


def _hour(hour: int) -> Iterator[Event]:
    rng = np.random.default_rng(hour)
    for number in range(RIDES):
        at = START_MS + hour * HOUR_MS + number * HOUR_MS // RIDES
        km = round(float(rng.gamma(3.0, 2.0)), 2)
        ride = Ride(f"r{hour}-{number}", at, f"p{rng.integers(RIDERS)}", km)
        yield ride
        fare = round(2 * km + RISE * max(0, hour + 1 - TURNS_AT) ** 2 + float(rng.normal(0, 0.5)), 2)
        paid_at, corrections = at + int(rng.integers(2, 25)) * MINUTE_MS, int(rng.choice([0, 0, 0, 0, 1, 2]))
        if rng.random() < 0.9:
            for correction in range(1 + corrections):
                yield Paid(ride.ride, paid_at + 7 * correction * MINUTE_MS, f"b-{ride.ride}", fare + correction)
