"""How long a service that was killed is away, and what its tasks had to restore."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from local import Running
from prometheus_client.parser import text_string_to_metric_families

METRIC = "trimtab_runtime_restore_duration_seconds"


@dataclass(frozen=True, slots=True)
class Restored:
    """`away_s`: from the kill until its successor was ready. `tasks_s`: mean time to open a task, by stage.

    `entries`: in its tables, by stage.
    """

    away_s: float
    tasks_s: Mapping[str, float]
    entries: Mapping[str, int]


def restored(running: Running, name: str, loop: str) -> Restored:
    """Kill a service and wait for it."""
    away_s = running.restart_s(name)
    [url] = running.addresses.services[name]
    ending = f".{loop}"
    tasks_s = {stage.removesuffix(ending): s for stage, s in durations(url).items() if stage.endswith(ending)}
    return Restored(round(away_s, 2), tasks_s, entries(url, ending))


def durations(url: str) -> dict[str, float]:
    """Mean seconds to open a task, by stage's group, since the process began."""
    sums, counts = dict[str, float](), dict[str, float]()
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", trust_env=False).text):
        for sample in family.samples:
            if sample.name == f"{METRIC}_sum":
                sums[sample.labels["stage"]] = sample.value
            elif sample.name == f"{METRIC}_count":
                counts[sample.labels["stage"]] = sample.value
    return {stage: round(spent_s / counts[stage], 3) for stage, spent_s in sums.items() if counts[stage]}


def entries(url: str, ending: str) -> dict[str, int]:
    """Entries of all tables by stage, of the stages whose group ends so."""
    status = httpx.get(f"{url}/status", trust_env=False).json()
    return {
        stage["group"].removesuffix(ending): sum(sum(task["entries"].values()) for task in stage["tasks"])
        for stage in status["stages"]
        if stage["group"].endswith(ending)
    }
