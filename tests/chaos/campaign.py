"""Is nothing lost and nothing doubled? Hard faults on a real cluster while events flow, and what became of each event.

python tests/chaos/campaign.py [--quick] [--seed N] [--only FAULT,FAULT] [--json FILE]

It starts a Kafka and the seven services of its own in a temporary folder, declares a loop, sends numbered orders of a
thousand customers and their late ratings, and meanwhile kills, freezes and restarts processes by a schedule that
follows from the seed. The faults of the network and of the broker's disk come afterwards, on a cluster whose services
reach their broker through a proxy; then the loop's declaration is changed, and each service is restarted in another
release, made of this source tree with every schema a field richer, and back; then those of three brokers, with two
replicas of each service, and once more with as many events as those carry. Beside that a reader takes every committed
prediction and outcome as it comes. At the end all is compared with what follows from the events that were sent:

  lost, doubled        events, predictions and outcomes that are missing, or there too often
  out of order         orders whose outcomes do not follow their corrections in the order in which they were sent
  wrong aggregates     predictions from other features, and outcomes with another label, than recomputed from the events
  control violations   drifts, retrains, models, verdicts, versions or champions that do not fit together
  longest stall        seconds without a new prediction, or without a new outcome, in any partition
  recovery             seconds from a fault until everything is ready and flows again

The exit code is 1 when anything is lost, doubled, out of order, wrong or violated; the cluster's folder is kept then.
With --plain the table goes on with a worker that counts events by key and passes them on, as people write it with plain
aiokafka or Faust, killed as often: what it loses and doubles is shown, and fails nothing.
"""

import argparse
import asyncio
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import evidence
import numpy as np
from brokers import BROKERS, LOADED, REPLICAS
from faults import BEHIND_S, FAR_BEHIND_S, FAULTS, KILLS, STEADY_S, Fault, Injected, Scene, inject, rounds
from flow import Sender, drained, reading
from network import FULL_DISK, NETWORK, Network, network
from oracle import judged
from orders import DAY_MS, MINUTE_MS, Stream, declared
from plain import compared
from rich.console import Console
from trimtab.cli.brokers import SEVERAL
from trimtab.contracts import topics
from trimtab.testing.clusters import CommandFailedError
from trimtab.testing.plane import violations
from upgrade import UPGRADES, Fleet
from verdict import Row, rows, tell, together, write
from victims import Size, StuckError, Victims

WIDTH = 160
T = TypeVar("T")
PLAIN_KILLS = 5
HISTORY_MS = 100 * DAY_MS
"""So long ago the stream begins: orders come up to two minutes apart, and none may be dated ahead of the clock."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Orders a second, the pieces in which they are sent, event time between two, and when the flow counts as back."""

    orders_per_s: int = 70
    pieces_per_s: int = 5
    apart_ms: int = 2 * MINUTE_MS
    behind_s: float = BEHIND_S


CROWDED = Pace(orders_per_s=15, pieces_per_s=1, behind_s=FAR_BEHIND_S)
"""Where three brokers and twice the services share the cores."""
FULL = replace(CROWDED, orders_per_s=90, apart_ms=MINUTE_MS // 3)
"""With as much event time a second: what a grain of it costs does not hang on how much happens in it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """At least so many rounds and events. `every`: event time between two retrains, besides those on drift."""

    faults: Sequence[Fault]
    rounds: int
    events: int
    every: str
    pace: Pace = Pace()
    size: Size = field(default_factory=Size)

    @property
    def is_networked(self) -> bool:
        """Whether its faults need a network that can be disturbed, which is another cluster."""
        return any(fault.name in NETWORK for fault in self.faults)

    @property
    def is_rolling(self) -> bool:
        """Whether its faults need services of which each can be restarted in another release."""
        return any(fault.name in UPGRADES for fault in self.faults)


SEVERALFOLD: Size = {"brokers": SEVERAL, "replicas": REPLICAS}
"""Brokers and replicas that stand in for each other."""
QUICK = Plan(KILLS, 1, 5_000, "12h")
WHOLE = [
    Plan(list(FAULTS.values()), 3, 0, "3d"),
    Plan(list(NETWORK.values()), 2, 0, "3d"),
    Plan(list(UPGRADES.values()), 1, 0, "12h"),
    Plan(list(BROKERS.values()), 1, 0, "3d", CROWDED, SEVERALFOLD),
    Plan(LOADED, 3, 100_000, "3d", FULL, SEVERALFOLD),
]
EVERY = {fault.name: fault for plan in WHOLE for fault in plan.faults}


class Campaign:
    """One run. Mutable: it remembers what it has done."""

    def __init__(self, plan: Plan, seed: int, folder: Path, console: Console) -> None:
        self._plan, self._folder, self._console = plan, folder, console
        self._stream = Stream(seed, int(time.time() * 1000) - HISTORY_MS, plan.pace.apart_ms)
        self._rng = np.random.default_rng(seed)
        self._injected: list[Injected] = []
        self._began_s = time.monotonic()

    def run(self) -> Sequence[Row]:
        """All of it, from an empty folder to the table."""
        self._loop = declared(self._folder / "orders", self._plan.every)
        self._say("starting Kafka and the seven services")
        with ExitStack() as stack:
            apart = self._plan.is_networked or self._plan.is_rolling
            between = stack.enter_context(network(self._folder / "kafka")) if apart else None
            if between and between.disk is None and FULL_DISK in self._plan.faults:
                self._plan = replace(self._plan, faults=[one for one in self._plan.faults if one is not FULL_DISK])
                self._say("no small disk can be mounted here: the full disk is left out")
            own = (between.proxied, between.direct) if between else ()
            kind = Fleet if self._plan.is_rolling else Victims
            self._victims = kind(self._folder / "cluster", *own, **self._plan.size)
            stack.enter_context(self._victims.up())
            self._victims.apply(self._folder / "orders")
            return asyncio.run(self._mistreat(between))

    async def _mistreat(self, between: Network | None) -> Sequence[Row]:
        where, loop = self._victims.addresses, self._loop
        bootstrap = where.kafka.bootstrap_servers
        sender = Sender(where.kafka, loop, self._stream)
        async with reading(where.kafka, loop) as reader, aclosing(sender):
            await sender.begin(where.services)
            pace = self._plan.pace
            scene = Scene(self._victims, sender, reader, self._stream, self._rng, between, pace.behind_s)
            await beside(self._blows(scene), sender.run(pace.orders_per_s, pace.pieces_per_s), reader.run())
            await beside(self._ends(sender), reader.run())
            found = await beside(evidence.found(bootstrap, loop, reader), reader.run())
        self._say(f"sent {self._stream.events:,} events; {sender.repeated} pieces of them again")
        control = await evidence.control_plane(bootstrap, loop)
        serving = await evidence.serving(self._victims.addresses, loop, control)
        self._say(", ".join(f"{len(events)} {topic}" for topic, events in control.items() if events))
        if not control[topics.DRIFT_DETECTED]:
            self._say("no drift was told: what may follow from one was not put to the test")
        broken = violations(control, serving)
        for one in broken:
            self._say(f"violated: {one.what}")
        wrong = judged(loop, self._stream.orders, self._stream.ratings, found)
        return rows(self._stream, self._injected, wrong, broken)

    async def _blows(self, scene: Scene) -> None:
        """One fault after the other, until there were rounds and events enough."""
        await scene.begun()
        if not await scene.warmed():
            self._say(f"the flow still stalls by itself for more than {STEADY_S:g} s: so it will under faults")
        least, enough = 1 + self._plan.rounds * len(self._plan.faults), self._plan.events
        self._say(f"at least {least} faults and {enough:,} events" if enough else f"{least} faults")
        for number, fault in enumerate(rounds(self._plan.faults, self._rng), 1):
            made = await inject(fault, scene)
            self._injected.append(made)
            self._say(
                f"{number:3}  {self._stream.events:7,} events  {fault.name:38}"
                f"stall {made.stall_s:5.1f} s  recovery {made.recovery_s:5.1f} s"
            )
            if number >= least and self._stream.events >= enough:
                return

    async def _ends(self, sender: Sender) -> None:
        """Send what is left, say that it was all, and wait for what follows from it."""
        self._say("waiting until everything has been worked off")
        await sender.aclose()
        await sender.send(self._stream.rest())
        end_ms = self._stream.at_ms + DAY_MS
        await sender.finish(end_ms)
        await drained(self._victims.addresses, self._loop, end_ms)

    def _say(self, what: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._began_s:5.0f} s[/]  {what}", highlight=False)


async def beside(work: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, None]) -> T:
    """Do something while others go on, which end with it. What ends one of those ends this."""
    doing = asyncio.create_task(work)
    going = [asyncio.create_task(other) for other in others]
    try:
        await asyncio.wait([doing, *going], return_when=asyncio.FIRST_COMPLETED)
        for other in going:
            if other.done():
                other.result()
        return doing.result()
    finally:
        for task in (doing, *going):
            task.cancel()
        await asyncio.gather(doing, *going, return_exceptions=True)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.epilog = "faults:\n" + "\n".join(f"  {fault.name:38}{fault.about}" for fault in EVERY.values())
    parser.add_argument("--quick", action="store_true", help="each service is killed once, some 5,000 events: 90 s")
    parser.add_argument("--seed", type=int, default=1, help="of the events, the order of the faults, and their victims")
    parser.add_argument("--only", metavar="FAULT,…", help="these faults alone, of those below")
    parser.add_argument("--rounds", type=int, help="how often each of them, at least")
    parser.add_argument("--json", type=Path, default=Path("chaos.json"), help="where the table goes (chaos.json)")
    parser.add_argument(
        "--plain",
        action="store_true",
        help="then the same for plain aiokafka and Faust: 10 minutes more",
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder of the cluster also when all is right")
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else []
    if unknown := set(wanted) - EVERY.keys():
        parser.error(f"there is no fault {', '.join(sorted(unknown))}; there are {', '.join(EVERY)}")
    return given


def plans_of(given: argparse.Namespace) -> Iterator[Plan]:
    """The short form, or the whole one on its clusters; with `--only`, those faults, for as long as they take."""
    plans = [QUICK] if given.quick else WHOLE
    if given.only:
        wanted = given.only.split(",")
        chosen = [(plan, [one for one in plan.faults if one.name in wanted]) for plan in WHOLE]
        plans = [replace(plan, faults=faults, events=0) for plan, faults in chosen if faults]
    for plan in plans:
        yield plan if given.rounds is None else replace(plan, rounds=given.rounds, events=0)


def main() -> None:
    """Mistreat, compare, print, write."""
    given = arguments()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # that a killed broker is away is no news
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whoever ends the campaign ends its cluster
    folder = Path(tempfile.mkdtemp(prefix="trimtab-chaos-"))
    console.print(f"seed {given.seed}; the cluster is in {folder}", highlight=False)
    found, stuck = list[Row](), list[str]()
    for number, plan in enumerate(plans_of(given)):
        try:
            found += Campaign(plan, given.seed, folder / str(number), console).run()
        except (StuckError, CommandFailedError) as error:
            stuck.append(str(error))
            console.print(stuck[-1], highlight=False)
    table = together(found)
    others = compared(folder / "plain", PLAIN_KILLS, given.seed, console) if given.plain else []
    tell(console, [*table, *others])
    write(given.json, [*table, *others])
    if stuck:
        sys.exit(f"{'; '.join(stuck)}; the same again with --seed {given.seed}")
    if not all(row.is_right for row in table):
        sys.exit(
            f"something is wrong; the same again with --seed {given.seed}; the logs are in {folder}/*/cluster/logs"
        )
    if not given.keep:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
