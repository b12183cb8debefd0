"""The parts of a run, in their order. Each returns its figures under the part's name."""

import asyncio
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import backlog
from alone import alone
from flights import DAY_MS, Flights
from forward import forward
from growth import grown
from latency import Pace, latency
from local import Broker, Local, Running
from made import Size
from monitor import measure as monitor_steps
from plans import HISTORY_DAYS, Plan
from play import Told, play, playing
from restore import restored
from serving import serving
from shown import Shown
from state import measure as reread
from trimtab.cli.cluster.address import Addresses
from trimtab.cli.replay.run import Played, Score
from trimtab.cli.replay.slices import Span
from trimtab.contracts import topics
from trimtab.loops.files import Recorded, opened
from trimtab.loops.model import Loop
from trimtab.runtime.bus import Part
from trimtab.runtime.kafka.connection import Connection
from trimtab.testing import KafkaLab
from whole import Loaded, loaded, until_settled

SERVICES = ("feature", "predictor", "monitor")
"""Those that follow ingest, each on what the one before has written."""
RESTORED = ("ingest", "feature", "predictor", "monitor", "retrain-controller", "registry")
BATCH, TURNS = 5_000, 3
MONITOR_BATCH, MONITOR_PER_HOUR = 1_000, 38
LIVE_STEP = 1_000_000
"""Live flights of one part have other numbers than those of the next."""
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: where, on what, which parts, how much. `intake`: the flights for ingest alone, on a loop of their own.

    `scratch`: for generated loops.
    """

    local: Local
    flights: Flights
    intake: Flights
    recorded: Recorded
    parts: frozenset[str]
    plan: Plan
    shown: Shown
    scratch: Path

    def has(self, *parts: str) -> bool:
        """Whether any of these is to be measured."""
        return bool(self.parts & set(parts))

    @property
    def alone_span(self) -> Span:
        """What services work off alone."""
        return Span(self.flights.after_days(HISTORY_DAYS) - 1, self.flights.after_days(self.plan.alone_day) - 1)

    @contextmanager
    def up(self) -> Iterator[Running]:
        """The whole cluster."""
        with self.shown.part("starting Kafka and the services"):
            opening = self.local.up()
            running = opening.__enter__()
        try:
            yield running
        finally:
            opening.__exit__(None, None, None)


def history(bench: Bench, running: Running) -> None:
    """Declare the flights and play their first month, after which a model serves; where that was done, nothing."""
    bench.local.command("apply", str(bench.flights.folder))
    span = Span(bench.flights.first_ms - 1, bench.flights.after_days(HISTORY_DAYS) - 1)
    with bench.shown.part("the first month, until a model serves") as told:
        asyncio.run(play(running.addresses, bench.flights.loop, bench.recorded, span, told, DAY_MS))


def alone_parts(bench: Bench) -> Figures:
    """The plain loop, and services that have the machine to themselves and the broker."""
    found: Figures = {}
    with bench.local.broker() as broker:
        if bench.has("forward", "ingest"):
            found |= intake(bench, broker)
        if bench.has(*SERVICES):
            found |= services(bench, broker)
        if bench.has("state"):
            with bench.shown.part("large tables, written and read back") as told:
                found["state"] = reread(broker.bootstrap, bench.plan.keys, told)
    return found


def intake(bench: Bench, broker: Broker) -> Figures:
    """A backlog of Avro, forwarded by the plain loop and taken in by ingest; then one of JSON. On a loop of its own."""
    taken, kafka = bench.intake, broker.bootstrap
    bench.local.command("apply", str(taken.folder), bootstrap=kafka)
    found: Figures = {}
    with opened(taken.loop, taken.data) as recorded:
        for how in (backlog.avro, backlog.json):
            name = how.__name__
            with bench.shown.part(f"ingest alone, {name}") as told:
                events = backlog.copies(taken.loop, recorded, bench.plan.intake, name)
                count = asyncio.run(backlog.write(kafka, taken.loop, events, how))
                if "forward" not in found and bench.has("forward"):
                    found["forward"] = {"per_s": round(asyncio.run(forwarded(broker, taken.loop, told)))}
                if bench.has("ingest"):
                    found[f"ingest_{name}"] = asdict(alone(broker, "ingest", taken.loop.name, count, told))
    bench.local.command("delete", "--yes", taken.loop.name, bootstrap=kafka)
    return found


async def forwarded(broker: Broker, loop: Loop, told: Told) -> float:
    """Records a second that the plain loop forwards: all departures of the backlog. The median of three."""
    told("the plain forward loop")
    source, rates = topics.source(loop.name, loop.predict.on), list[float]()
    async with KafkaLab(broker.bootstrap) as lab:
        records = await length(lab, source, loop.partitions)
        for turn in range(TURNS):
            target = f"bench.forward.{turn}"
            await lab.create({target: loop.partitions})
            rates.append(
                await forward(
                    broker.bootstrap, source, target, records=records, partitions=loop.partitions, batch_size=BATCH
                )
            )
    return statistics.median(rates)


async def length(lab: KafkaLab, topic: str, partitions: int) -> int:
    """Records in a topic that nobody has written in transactions."""
    bounds = await lab.bus.catalog.bounds([Part(topic, number) for number in range(partitions)])
    return sum(end - begin for begin, end in bounds.values())


def services(bench: Bench, broker: Broker) -> Figures:
    """The next weeks of flights, worked off by one service after the other."""
    score = Score(bench.flights.loop, bench.alone_span, None)
    where = Addresses(Connection(broker.bootstrap), {})
    with bench.shown.part("the next weeks through ingest") as told:
        count = asyncio.run(_sent(where, score, bench.recorded))
        alone(broker, "ingest", bench.flights.loop.name, count, told)
    found: Figures = {}
    for name in SERVICES:
        with bench.shown.part(f"{name} alone") as told:
            found[name] = asdict(alone(broker, name, bench.flights.loop.name, count, told))
    if bench.has("monitor"):
        with bench.shown.part("the monitor's steps, without transport"):
            steps = monitor_steps(bench.plan.monitor_rows, MONITOR_BATCH, MONITOR_PER_HOUR)
            found["monitor"]["steps"] = steps.told()
    return {part: figures for part, figures in found.items() if bench.has(part)}


async def _sent(where: Addresses, score: Score, recorded: Recorded) -> int:
    """Send a span without regard to anybody; returns how many events."""
    rows = 0

    def count(played: Played) -> None:
        nonlocal rows
        rows = played.rows

    async with playing(where, score, count) as player:
        await player.play(recorded, lambda _: None)
    return rows


def together_parts(bench: Bench, running: Running) -> Figures:
    """Everything at work."""
    found: Figures = {"start_s": round(running.start_s, 1)}
    if bench.has("loop"):
        with bench.shown.part("the whole loop") as told:
            found["loop"] = asdict(whole(bench, running, told))
    live = count(0, LIVE_STEP)
    if bench.has("latency"):
        found["latency"] = [latency_at(bench, running, next(live), per_s) for per_s in bench.plan.rates]
    if bench.has("serving"):
        with bench.shown.part("from drift to a new champion") as told:
            found["serving"] = asdict(asyncio.run(serving(running, bench.flights, next(live), told)))
    if bench.has("restore"):
        with bench.shown.part("kills and restores") as told:
            found["restore"] = {name: killed(bench, running, name, told) for name in RESTORED}
    if bench.has("growth"):
        bench.local.command("delete", "--yes", bench.flights.loop.name)  # or each restart would restore its tables too
        found["growth"] = [size_of(bench, running, size) for size in bench.plan.sizes]
    return found


def whole(bench: Bench, running: Running, told: Told) -> Loaded:
    """What is left of the flights, once nothing from before is under way."""
    loop, flights = bench.flights.loop, bench.flights
    first_day = bench.plan.alone_day if bench.has(*SERVICES) else HISTORY_DAYS
    until_settled(running, loop, bench.recorded, flights.after_days(first_day) - 1, told)
    return loaded(running, loop, bench.recorded, Span(flights.after_days(first_day) - 1, flights.last_ms), told)


def latency_at(bench: Bench, running: Running, first: int, per_s: int) -> Figures:
    """At one rate."""
    with bench.shown.part(f"latency at {per_s} events/s") as told:
        kafka, seconds = running.addresses.kafka, bench.plan.seconds
        return asdict(asyncio.run(latency(kafka, bench.flights, Pace(first, per_s, seconds), told)))


def killed(bench: Bench, running: Running, name: str, told: Told) -> Figures:
    """One service."""
    told(name)
    return asdict(restored(running, name, bench.flights.loop.name))


def size_of(bench: Bench, running: Running, size: Size) -> Figures:
    """One generated loop."""
    title = f"{size.events:,} events of {size.entities:,} entities over {size.partitions} partitions"
    with bench.shown.part(title) as told:
        return asdict(grown(running, bench.scratch, size, told))
