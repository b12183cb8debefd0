"""One fit from the log to the store, in the process that does nothing else."""

import io
import json
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.contracts import times, topics
from trimtab.loops import declaration
from trimtab.loops.model import Loop
from trimtab.ml import training
from trimtab.ml.datasets import Dataset
from trimtab.ml.reference import Reference
from trimtab.ml.scoring import Scorer
from trimtab.runtime.bus import Bus
from trimtab.store.blobs import Blobs
from trimtab.trainer.adapters.cache import Cache, Cached
from trimtab.trainer.adapters.columns import OUTCOMES, matured, table
from trimtab.trainer.adapters.columns import predictions as predictions_of
from trimtab.trainer.adapters.orders import Order
from trimtab.trainer.core import Begun, Job, Known, Train, Trained, train, unheard


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a fit needs around it. `train`: what fits and judges; who has done the same work before may remember it.

    `beside`: where the rows are made ready for the store while models are fitted on them; None: afterwards.
    """

    bus: Bus
    blobs: Blobs
    folder: Path
    cluster_id: str
    code_version: str
    lock_digest: str
    train: Train = train
    beside: Executor | None = None


def loop_of(declared: Mapping[str, Any]) -> Loop:
    """The loop that a loop.declared carries."""
    return declaration.from_declared(
        declared["declaration"],
        declared["schemas"],
        version=declared["version"],
        partitions=declared["partitions"],
        digest=declared["digest"],
    )


@dataclass(frozen=True, slots=True)
class Gathered:
    """Matured rows and the stretches of the log that they come from."""

    rows: Dataset
    predictions: Cached
    outcomes: Cached


def key(loop: Loop) -> str:
    """Under which the loop's predictions are cached: with other features they become other columns."""
    return f"predictions-{loop.features.digest[:16]}"


_OUTCOMES = "outcomes"


async def gather(bus: Bus, folder: Path, loop: Loop, at_ms: int) -> Gathered:
    """The rows that a request at this event time is answered with. `folder`: of the cache."""
    cache = Cache(folder, bus)
    predictions = await cache.read(topics.predictions(loop.name), key(loop), predictions_of(loop))
    outcomes = await cache.read(topics.outcomes(loop.name), _OUTCOMES, OUTCOMES)
    return Gathered(matured(loop, predictions.rows, outcomes.rows, at_ms), predictions, outcomes)


async def read_ahead(bus: Bus, folder: Path, loop: Loop) -> None:
    """What `gather` would have to read from the log, if that is much: nobody waits for it now."""
    cache = Cache(folder, bus)
    await cache.read_ahead(topics.predictions(loop.name), key(loop), predictions_of(loop))
    await cache.read_ahead(topics.outcomes(loop.name), _OUTCOMES, OUTCOMES)


async def newest_ms(bus: Bus, folder: Path, loop: Loop) -> int:
    """The newest event time that the loop's predictions and outcomes tell of; 0 without any."""
    cache = Cache(folder, bus)
    asked = (await cache.read(topics.predictions(loop.name), key(loop), predictions_of(loop))).rows["at_ms"]
    settled = (await cache.read(topics.outcomes(loop.name), _OUTCOMES, OUTCOMES)).rows["settled_at_ms"]
    return max((int(newest) for newest in (asked.max(), settled.max()) if isinstance(newest, int)), default=0)


async def fulfil(shop: Workshop, order: Order, begun: Begun = unheard) -> dict[str, Any]:
    """Do all that the request asks for. Raises TrainingError, StoreError.

    {"trained": the fields of model.trained, without wall time and signature; "recipe": the digest of what was declared}
    """
    begun("dataset")
    loop = loop_of(order.declared)
    gathered = await gather(shop.bus, shop.folder, loop, order.at_ms)
    job = Job(loop, order.at_ms, known(shop.blobs, order.champion), known(shop.blobs, order.first), order.seed)
    ahead = None if shop.beside is None else shop.beside.submit(encoded, gathered.rows)
    trained = shop.train(job, gathered.rows, begun)
    rows = ahead.result() if ahead is not None and trained.rows is gathered.rows else encoded(trained.rows)
    shop.blobs.put(trained.package.skops)
    shop.blobs.put(trained.package.blob)
    fields = {
        "loop": loop.name,
        "at": times.text(order.at_ms),
        "request_id": order.request_id,
        "cause_kind": order.cause_kind,
        "model": model_fields(loop, trained),
        "dataset": dataset_fields(shop, gathered, rows),
        "metrics": dict(trained.metrics),
        "gate": gate_fields(loop, trained),
        "reference": reference_fields(trained.reference),
        "fits": trained.fits,
        "seed": order.seed,
        "code_version": shop.code_version,
        "lock_digest": shop.lock_digest,
        "environment": training.environment(),
    }
    recipe = training.declared_digest(loop.model, loop.task, loop.train.window_ms, loop.features.digest)
    return {"trained": fields, "recipe": recipe}


def known(blobs: Blobs, ref: Mapping[str, Any] | None) -> Known | None:
    """A model that is there already, loaded."""
    if ref is None:
        return None
    scorer = Scorer.load(ref["format"], blobs.get(ref["digest"]))
    return Known(ref["version"], scorer, ref["until_ms"], ref["features_digest"], ref["recipe"])


def model_fields(loop: Loop, trained: Trained) -> dict[str, Any]:
    """`model` of model.trained."""
    package = trained.package
    spec = Scorer.load(package.format, package.blob).spec
    parity = asdict(package.parity)
    if package.onnx is None:
        parity["max_difference"] = 0.0
    recipe = training.recipe(loop.model, loop.task, loop.train.window_ms, loop.features.digest)
    return {
        "digest": package.digest,
        "format": package.format,
        "onnx_digest": package.onnx_digest if package.format == "onnx" else None,
        "skops_digest": package.skops_digest,
        "parity": parity,
        "recipe_digest": training.recipe_digest(recipe),
        "features_digest": loop.features.digest,
        "classes": list(spec.classes) or None,
    }


def reference_fields(reference: Reference) -> dict[str, Any]:
    """`reference` of model.trained."""
    fields = asdict(reference)
    return {**fields, "from": times.text(fields.pop("from_ms"))}


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows, the digest of what they say, and the Parquet file that they are kept in."""

    rows: Dataset
    digest: str
    parquet: bytes


def encoded(rows: Dataset) -> Encoded:
    """Rows as they are kept. Changes nothing outside."""
    file = io.BytesIO()
    table(rows).write_parquet(file)
    return Encoded(rows, rows.digest(), file.getvalue())


def dataset_fields(shop: Workshop, gathered: Gathered, made: Encoded) -> dict[str, Any]:
    """`dataset` of model.trained; the rows themselves go to the store."""
    rows = made.rows
    binary = rows.labels.dtype != object and set(rows.labels.tolist()) <= {0.0, 1.0}
    ranges = [*gathered.predictions.ranges, *gathered.outcomes.ranges]
    return {
        "cluster_id": shop.cluster_id,
        "ranges": [
            {"topic": r.topic, "topic_id": r.topic_id, "partition": r.partition, "from": r.from_, "to": r.to}
            for r in ranges
        ],
        "rows": len(rows),
        "positives": int(rows.labels.sum()) if binary else None,
        "digest": made.digest,
        "blob": shop.blobs.put(made.parquet),
        "first_at": times.text(int(rows.at_ms[0])),
        "last_at": times.text(int(rows.at_ms[-1])),
    }


def gate_fields(loop: Loop, trained: Trained) -> dict[str, Any]:
    """`gate` of model.trained."""
    declared = loop.gate
    return {
        "verdict": trained.verdict,
        "rule": trained.rule,
        "margin": declared.margin,
        "confidence": declared.confidence,
        "metric": loop.model.metric,
        "comparisons": [
            {"against": one.against, "version": one.version, "passed": one.comparison.passed}
            | json_numbers(asdict(one.comparison.measured))
            for one in trained.compared
        ],
    }


def json_numbers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinities and no NaN: they become the largest number there is, and zero."""
    return {
        n: float(np.nan_to_num(v, posinf=1e308, neginf=-1e308)) if isinstance(v, float) else v
        for n, v in fields.items()
    }


def order_from(line: bytes) -> Order:
    """An order from its JSON."""
    return Order(**json.loads(line))
