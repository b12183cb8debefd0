"""What the whole of Trimtab carries on this machine: throughput, latency, drift to serving, restore, memory, growth.

python bench/run.py [--quick] [--only PART,PART] [--json FILE]

Everything runs on a Kafka and services of its own in a temporary folder, on the flights of 2013 as if they happened
now. A plain aiokafka forward loop on the same broker is the limit that everything is held against. CPU is counted
beside the clock: on a machine that others use as well, that is the figure to trust.
"""

import argparse
import json
import logging
import platform
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import aiokafka.producer.sender as sender
import psutil
from flights import Flights, flights
from local import Local
from parts import SERVICES, Bench, Figures, alone_parts, history, together_parts
from plans import ALONE, HISTORY_DAYS, PARTS, QUICK, TOGETHER, WHOLE, Plan
from report import targets, tell
from rich.console import Console
from shown import Shown
from trimtab.loops.files import opened
from trimtab.runtime.kafka.coordinator import BETWEEN_S

WIDTH = 120


def measure(bench: Bench) -> Figures:
    """All figures that were asked for."""
    found: Figures = {"machine": {"cores": psutil.cpu_count(), "python": platform.python_version()}}
    if bench.has(*SERVICES):
        with bench.up() as running:
            history(bench, running)
    if bench.has(*ALONE):
        found |= alone_parts(bench)
    if bench.has(*TOGETHER):
        with bench.up() as running:
            if not bench.has(*SERVICES):
                history(bench, running)
            found |= together_parts(bench, running)
    return found


def prepared(folder: Path, plan: Plan, wanted: frozenset[str]) -> tuple[Flights, Flights]:
    """The flights, and the same as a loop for ingest alone. Live events have to follow closely on what was played."""
    now_ms = int(time.time() * 1000)
    days = plan.days if wanted & {"loop", *SERVICES} else HISTORY_DAYS + 1  # the last one is not over
    return flights(folder / "flights", "flights", days, now_ms), flights(folder / "intake", "intake", 59, now_ms)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything: some six minutes")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where the figures go (bench.json)")
    given = parser.parse_args()
    wanted = frozenset(given.only.split(","))
    if "serving" in wanted:
        wanted |= {"loop"}  # within its first month a loop has causes of its own to retrain
    if unknown := wanted - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    plan = QUICK if given.quick else WHOLE
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that has just started is asked again, no more
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whoever ends the bench ends its cluster
    sender.BACKOFF_OVERRIDE = BETWEEN_S  # the plain loop waits no longer between transactions than the services do
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as scratch, Shown(console) as shown:
        folder = Path(scratch)
        loop, intake = prepared(folder, plan, wanted)
        with opened(loop.loop, loop.data) as recorded:
            bench = Bench(Local(folder / "cluster"), loop, intake, recorded, wanted, plan, shown, folder / "made")
            found = measure(bench)
    found["targets"] = [asdict(target) for target in targets(found)]
    given.json.write_text(json.dumps(found, indent=2) + "\n")
    tell(console, found)
    console.print(f"all figures: {given.json}")


if __name__ == "__main__":
    main()
