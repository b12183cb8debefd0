"""The figures as tables, with what was promised and what keeps the loop from carrying more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latency import WARM_S
from rich.console import Console
from rich.table import Table

Figures = Mapping[str, Any]
NAMES = {
    "ingest_avro": "ingest alone, Avro",
    "ingest_json": "ingest alone, JSON",
    "feature": "feature alone",
    "predictor": "predictor alone",
    "monitor": "monitor alone",
}

KINDS = {
    "asked": "predictor, keys that were asked",
    "ids": "ingest, ids of events",
    "windows": "monitor, asks that await their label",
    "tiles": "feature, tiles",
    "replica": "predictor, its replica of the tiles",
}
STATE_KEYS = 1_000_000


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised. `found` None: not measured in this run."""

    name: str
    promised: str
    found: float | None
    met: bool


def targets(found: Figures) -> list[Target]:
    """All of them."""
    loop, ingest = _at(found, "loop", "per_s"), _at(found, "ingest_avro", "per_s")
    p99 = next((one["p99"] for one in found.get("latency", ()) if one["per_s"] == 200), None)
    served = _at(found, "serving", "seconds")
    state = [one["seconds"] for one in found.get("state", {}).values() if one["keys"] >= STATE_KEYS]
    reread = max(state, default=None)
    return [
        Target("whole loop, events/s", "4,000 or more", loop, loop is not None and loop >= 4_000),
        Target("ingest alone, events/s", "20,000 or more", ingest, ingest is not None and ingest >= 20_000),
        Target("event to prediction at 200/s, p99 ms", "under 250", p99, p99 is not None and p99 < 250),
        Target("drift to new champion serving, s", "under 15", served, served is not None and served < 15),
        Target("1,000,000 keys of any table restored, s", "under 20", reread, reread is not None and reread < 20),
    ]


def _at(found: Figures, part: str, name: str) -> float | None:
    return found[part][name] if part in found else None


def bottleneck(loop: Figures, cores: int) -> str:
    """What keeps the loop from carrying more, and what twice as much needs."""
    spent = [f"{name} {us:.0f}" for name, us in loop["cpu_us"].items() if us >= 0.05 * loop["total_us"]]
    slowest = next(iter(loop["slowest"]), "nobody")
    busy = (loop["cores"] + loop["others"]) / cores
    held = f"The machine's {cores} cores" if busy > 0.85 else f"Waiting: the cores were {busy:.0%} busy, and {slowest}"
    return (
        f"{held} held the loop at {loop['per_s']:,.0f} events/s. An event costs {loop['total_us']:.0f} µs of CPU: "
        f"{', '.join(spent)}. At that cost {cores} cores carry {loop['ceiling_per_s']:,.0f}. All waited most often for "
        f"{slowest}. Twice as many need {loop['total_us'] / 2:.0f} µs an event here, or {2 * cores} cores: stages "
        f"share nothing but partitions, so a second process of {slowest.partition('.')[0]} comes first."
    )


def tell(console: Console, found: Figures) -> None:
    """Print all tables."""
    if any(name in found for name in ("forward", "loop", *NAMES)):
        console.print(_throughput(found))
    if "loop" in found:
        console.print(_costs(found["loop"]))
        console.print(bottleneck(found["loop"], found["machine"]["cores"]), "\n")
    if "steps" in found.get("monitor", {}):
        steps = found["monitor"]["steps"]
        told = ", ".join(f"{name} {steps[f'{name}_us']}" for name in ("route", "join", "detect", "decode"))
        console.print(f"The monitor's steps alone, µs of CPU a prediction: {told} (decode: to hold them against)\n")
    if "latency" in found:
        console.print(_latency(found["latency"]))
    if "serving" in found:
        console.print(_serving(found["serving"]))
    if "restore" in found:
        console.print(_restore("Killed and restored", found["restore"]))
    if "state" in found:
        console.print(_state(found["state"]))
    if "growth" in found:
        console.print(_growth(found["growth"]))
    console.print(_targets(targets(found)))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _throughput(found: Figures) -> Table:
    limit = _at(found, "forward", "per_s")
    table = _table("Throughput", "", "events/s", "of the plain loop", "µs of CPU", "of Kafka's", "start s", "peak MB")
    if limit:
        table.add_row("plain aiokafka forward loop", f"{limit:,.0f}", "1")
    for part, name in NAMES.items():
        if (one := found.get(part)) is not None:
            costs = (
                f"{one['service_us']:.1f}",
                f"{one['broker_us']:.1f}",
                f"{one['start_s']:.1f}",
                f"{one['peak_mb']}",
            )
            table.add_row(name, f"{one['per_s']:,.0f}", _ratio(one["per_s"], limit), *costs)
    if (loop := found.get("loop")) is not None:
        kafka = loop["cpu_us"]["kafka"]
        costs = (f"{loop['total_us'] - kafka:.1f}", f"{kafka:.1f}", f"{found['start_s']:.1f}", f"{loop['peak_mb']}")
        table.add_row("whole loop", f"{loop['per_s']:,.0f}", _ratio(loop["per_s"], limit), *costs)
    return table


def _ratio(rate: float, limit: float | None) -> str:
    return f"{rate / limit:.3f}" if limit else ""


def _costs(loop: Figures) -> Table:
    title = (
        f"An event in the whole loop ({loop['events']:,} events; {loop['cores']} cores busy, others' {loop['others']})"
    )
    table = _table(title, "process", "µs of CPU", "share", "peak MB")
    for name, us in loop["cpu_us"].items():
        table.add_row(name, f"{us:.1f}", f"{us / loop['total_us']:.0%}", str(loop["peaks_mb"].get(name, "")))
    table.add_row("all", f"{loop['total_us']:.1f}", "", str(loop["peak_mb"]))
    quarters = ", ".join(f"{rate:,.0f}" for rate in loop["quarters_per_s"])
    waited = ", ".join(f"{name} {share:.0%}" for name, share in loop["slowest"].items())
    table.caption = f"events/s in each quarter: {quarters}; all waited for: {waited}"
    return table


def _latency(rates: Sequence[Figures]) -> Table:
    title = f"From event acknowledged to prediction readable, ms, after {WARM_S:.0f} s at each rate"
    table = _table(title, "events/s", "p50", "p99", "of it, medians")
    for one in rates:
        hops = ", ".join(f"{name} {ms:g}" for name, ms in one["hops_ms"].items())
        table.add_row(f"{one['per_s']:,}", f"{one['p50']:.0f}", f"{one['p99']:.0f}", hops)
    return table


def _serving(served: Figures) -> Table:
    table = _table(f"From a drift event to a new champion ({served['rows']:,} rows)", "", "after s")
    for name, seconds in served["steps_s"].items():
        table.add_row(name, f"{seconds:.2f}")
    table.add_row("first prediction of the new version", f"{served['seconds']:.2f}")
    return table


def _restore(title: str, services: Figures) -> Table:
    table = _table(title, "service", "away s", "of it opening tasks", "entries")
    for name, one in services.items():
        opened = ", ".join(f"{stage.partition('.')[2]} {seconds:.2f}" for stage, seconds in one["tasks_s"].items())
        table.add_row(name, f"{one['away_s']:.1f}", opened, f"{sum(one['entries'].values()):,}")
    return table


def _state(kinds: Figures) -> Table:
    keys = next(iter(kinds.values()))["keys"]
    columns = ("s", "keys/s", "of it indices, s", "CPU s", "bytes a key", "peak MB")
    table = _table(f"Read back by a fresh process: {keys:,} keys in two partitions", "table", *columns)
    for name, one in kinds.items():
        table.add_row(
            KINDS[name], f"{one['seconds']:.1f}", f"{one['keys'] / one['seconds']:,.0f}", f"{one['index_s']:.1f}",
            f"{one['cpu_s']:.1f}", str(one["key_bytes"]), str(one["peak_mb"]),
        )  # fmt: skip
    return table


def _growth(sizes: Sequence[Figures]) -> Table:
    columns = ("entities", "partitions", "events/s", "µs of CPU", "of it feature", "predictor", "monitor", "online MB")
    table = _table(
        "Generated loops of other sizes", "events", *columns, "feature away s", "predictor away s", "peak MB"
    )
    for one in sizes:
        size, loop, away = one["size"], one["loaded"], one["restored"]
        costs = [f"{loop['cpu_us'][name]:.0f}" for name in ("feature", "predictor", "monitor")]
        table.add_row(
            f"{size['events']:,}", f"{size['entities']:,}", str(size["partitions"]), f"{loop['per_s']:,.0f}",
            f"{loop['total_us']:.0f}", *costs, f"{one['online_mb']:.1f}",
            f"{away['feature']['away_s']:.1f}", f"{away['predictor']['away_s']:.1f}", str(loop["peak_mb"]),
        )  # fmt: skip
    return table


def _targets(all_of_them: Sequence[Target]) -> Table:
    table = _table("Promised", "", "promised", "found", "")
    for one in all_of_them:
        found = "not measured" if one.found is None else f"{one.found:,.0f}" if one.found >= 100 else f"{one.found:.1f}"
        met = "" if one.found is None else "[green]met[/]" if one.met else "[red]not met[/]"
        table.add_row(one.name, one.promised, found, met)
    return table
