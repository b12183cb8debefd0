"""Asks all services of a loop how far they are."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from trimtab.cli.cluster.status import LoopStatus, TaskStatus, loop_of, tasks_of
from trimtab.cli.replay.pace import Snapshot
from trimtab.cli.replay.watch import DECIDERS
from trimtab.contracts import topics
from trimtab.loops.model import Loop
from trimtab.runtime.marks import task_name

RUNNING = "running"
FEATURE = "feature"
"""The one service that has no stages where a declaration gives it nothing to do."""


class Services:
    """The services at these addresses (by name, one for each replica), as far as one loop is concerned."""

    def __init__(self, client: httpx.AsyncClient, addresses: Mapping[str, Sequence[str]], loop: Loop) -> None:
        self._client = client
        self._addresses = addresses
        self._loop = loop.name
        self._wanted = wanted_tasks(loop)

    async def snapshot(self) -> Snapshot:
        """How far they all are now."""
        urls = [url for replicas in self._addresses.values() for url in replicas]
        answers = await asyncio.gather(*(self._get(f"{url}/status") for url in urls))
        tasks = [task for answer in answers if answer is not None for task in tasks_of(answer)]
        return snapshot_of(tasks, await self.deployments(), self._wanted)

    async def deployments(self) -> list[LoopStatus | None]:
        """What each predictor serves the loop with; None where one does not answer."""
        paths = [f"{url}/v1/loops/{self._loop}/deployment" for url in self._addresses["predictor"]]
        answers = await asyncio.gather(*(self._get(path) for path in paths))
        return [None if answer is None else loop_of(self._loop, answer) for answer in answers]

    async def _get(self, url: str) -> Mapping[str, Any] | None:
        try:
            answer = await self._client.get(url)
        except httpx.HTTPError:
            return None
        if answer.status_code != httpx.codes.OK:
            return None
        content: Mapping[str, Any] = answer.json()
        return content


def wanted_tasks(loop: Loop) -> frozenset[tuple[str, int]]:
    """Every (group, partition) that works on the loop, the deciders included."""
    found = set()
    for stage in topics.STAGES.values():
        if stage.service == FEATURE and not loop.features.looked_up:
            continue
        group = topics.group(stage.service, stage.verb, loop.name if stage.per == "loop" else None)
        for partition in range(topics.stage_partitions(stage.service, stage.verb, loop.partitions)):
            found.add((group, partition))
    return frozenset(found)


def snapshot_of(
    tasks: Sequence[TaskStatus], deployments: Sequence[LoopStatus | None], wanted: frozenset[tuple[str, int]]
) -> Snapshot:
    """What the tasks and predictors say, taken together. Stages that serve all loops have no event time."""
    running = {(task.group, task.partition): task for task in tasks if task.state == RUNNING}
    timed = [task for key, task in running.items() if key in wanted and task.group not in topics.STAGES]
    known = [task.progress_ms for task in timed]
    served = [loop.sequence if loop is not None else -1 for loop in deployments]
    return Snapshot(
        progress_ms=None if None in known or not known else min(ms for ms in known if ms is not None),
        read={
            (task.group, topic, task.partition): offset
            for task in running.values()
            for topic, offset in task.positions.items()
            if task.group in DECIDERS
        },
        sequence=min(served, default=-1),
        running=wanted <= running.keys() and bool(served) and min(served) >= 0,
        idle=all(task.idle for task in timed),
        awake=not any(task.idle for task in timed),
        refused=[reason for loop in deployments if loop is not None for reason in loop.refused],
        standing=[
            f"{task_name(task.group, task.partition)} {task.state}: {task.reason}"
            for task in tasks
            if task.stands and (task.group, task.partition) in wanted
        ],
    )
