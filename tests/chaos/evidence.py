"""What the topics and the services say after a campaign, as the oracle wants it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
from flow import Reader
from oracle import Found, Key, Settled
from trimtab.cli.cluster.address import Addresses
from trimtab.cli.demo.collect import CONTROL, batches, control_events, in_schema
from trimtab.cli.rest import rest
from trimtab.contracts import envelope, topics
from trimtab.contracts.codec import Schema
from trimtab.loops.model import Loop
from trimtab.testing.plane import Control, Serving
from trimtab.trainer.adapters.columns import OUTCOMES
from trimtab.trainer.adapters.columns import predictions as predictions_of

PROJECTED_S = 10.0
"""So long may the registry's database be behind its log."""
Place = tuple[int, int]


async def found(bootstrap: str, loop: Loop, reader: Reader) -> Found:
    """Read the topics once more, from their start, beside what the reader has seen."""
    asked = predictions_of(loop)
    predicted = await records(bootstrap, topics.predictions(loop.name), asked.schema)
    settled = await records(bootstrap, topics.outcomes(loop.name), OUTCOMES.schema)
    await caught_up(reader, len(predicted), len(settled))
    return Found(
        events={name: await accepted(bootstrap, topics.events(loop.name, name)) for name in loop.events},
        predictions=asked.frame(predicted),
        outcomes=outcome_rows(predicted, settled),
        live=(reader.predictions.places, reader.outcomes.places),
        final=(places(predicted), places(settled)),
    )


async def caught_up(reader: Reader, predictions: int, outcomes: int) -> None:
    """Let the reader come to the end; one that does not shows what it lacks."""
    for _ in range(100):
        if len(reader.predictions.places) >= predictions and len(reader.outcomes.places) >= outcomes:
            return
        await asyncio.sleep(0.1)


async def records(bootstrap: str, topic: str, schema: Schema) -> Sequence[Any]:
    """Everything that is committed, in each partition's order, whichever version of its schema it was written by."""
    return [one async for batch in in_schema(bootstrap, topic, schema, lambda _: None) for one in batch]


async def accepted(bootstrap: str, topic: str) -> Counter[Key]:
    """How often each event's id stands in a topic."""
    ids = Counter[Key]()
    async for batch in batches(bootstrap, topic, lambda _: None):
        ids.update(envelope.require(record.headers, envelope.ID).decode() for record in batch)
    return ids


def places(read: Sequence[Any]) -> Sequence[Place]:
    """Where records stand."""
    return [(record.partition, record.offset) for record in read]


def outcome_rows(predicted: Sequence[Any], settled: Sequence[Any]) -> Sequence[Settled]:
    """Outcomes with their keys; one that points nowhere keeps its own, marked."""
    keys = {(one.partition, one.offset): one.key for one in predicted}
    frame = OUTCOMES.frame(settled)
    told = frame.select("prediction_partition", "prediction_offset", "revision", "label", "suspect")
    return [
        Settled(
            one.key.decode() if keys.get((partition, offset)) == one.key else f"astray {one.key.decode()}",
            revision,
            label,
            suspect,
        )
        for one, (partition, offset, revision, label, suspect) in zip(settled, told.iter_rows(), strict=True)
    ]


async def control_plane(bootstrap: str, loop: Loop) -> Control:
    """The loop's control events by topic."""
    return {topic: await control_events(bootstrap, topic, loop.name) for topic in CONTROL}


async def serving(where: Addresses, loop: Loop, control: Control) -> Serving:
    """Who says what serves, once they agree or PROJECTED_S have passed."""
    deployed = control[topics.DEPLOYMENT_CHANGED]
    champion = deployed[-1].champion.version if deployed and deployed[-1].champion else None
    predictors = [predictor_champion(url, loop) for url in where.services["predictor"]]
    for _ in range(round(PROJECTED_S / 0.2)):
        registry = registry_champion(where.services["registry"][0], loop)
        if registry == champion:
            break
        await asyncio.sleep(0.2)
    return Serving(champion, registry, predictors)


def registry_champion(url: str, loop: Loop) -> int | None:
    """The version that the registry calls champion."""
    with rest("registry", url) as registry:
        roles = {one["version"]: one["role"] for one in registry.items(f"/v1/loops/{loop.name}/versions")}
    return next((version for version, role in roles.items() if role == "champion"), None)


def predictor_champion(url: str, loop: Loop) -> int | None:
    """The version that a predictor serves."""
    answer = httpx.get(f"{url}/v1/loops/{loop.name}/deployment", timeout=5.0, trust_env=False).json()
    return None if answer["champion"] is None else int(answer["champion"]["version"])
