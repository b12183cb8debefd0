"""From the log to the store and back: the cache, the rows, the same model once more."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from trimtab.contracts import data, envelope, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.control import ModelTrained
from trimtab.contracts.prediction import prediction_schema
from trimtab.loops import declaration
from trimtab.loops.model import Loop
from trimtab.ml.scoring import Scorer
from trimtab.runtime.bus import Part
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out
from trimtab.store.blobs import MemoryBlobs
from trimtab.testing.declarations import declared, offers
from trimtab.trainer.adapters.again import again
from trimtab.trainer.adapters.work import Order, Workshop, fulfil, gather
from trimtab.trainer.errors import TooFewMaturedRowsError

DAY = 86_400_000
LOOP = offers()
AT = 60 * DAY
ROWS = 1_500


def bus_with(loop: Loop, rows: int = ROWS, signal: float = 1.5) -> MemoryBus:
    bus = MemoryBus()
    for topic in (topics.predictions(loop.name), topics.outcomes(loop.name)):
        bus.create(topic, loop.partitions)
    write(bus, loop, range(rows), signal)
    return bus


def write(bus: MemoryBus, loop: Loop, numbers: range, signal: float = 1.5) -> None:
    """Predictions over 58 days with their outcomes; an offer is the likelier clicked on the cheaper it is."""
    predictions = AvroCodec(prediction_schema(loop.name, loop.features.names, categorical=["place"]))
    outcomes = data.codec(data.Outcome)
    for i in numbers:
        rng = np.random.default_rng(i)
        price, partition = float(rng.normal()), i % loop.partitions
        at_ms = i * 58 * DAY // ROWS
        topic = topics.predictions(loop.name)
        offset = bus.end(Part(topic, partition))
        bus.append([Out(topic, f"k{i}".encode(), predictions.encode(prediction(i, at_ms, price)), (), partition)])
        clicked = float(rng.random() < 1 / (1 + np.exp(signal * price)))
        fields = outcome(i, at_ms, partition, offset, clicked)
        bus.append([Out(topics.outcomes(loop.name), f"k{i}".encode(), outcomes.encode(fields), (), partition)])
    mark = ((envelope.MARK, b"idle"), (envelope.TASK, b"predictor.score.offers-0"))
    bus.append([Out(topics.predictions(loop.name), b"\x00mark:x", None, mark, 0)])


def prediction(number: int, at_ms: int, price: float) -> dict[str, Any]:
    return {
        "key": f"k{number}",
        "at_ms": at_ms,
        "features": {"place": None if number % 7 == 0 else ("top", "side")[number % 2], "price": price},
        "ages_ms": {},
        "features_as_of_ms": at_ms,
        "features_digest": LOOP.features.digest,
        "score": None,
        "class": None,
        "probabilities": [],
        "arm": "none",
        "version": None,
        "model_digest": None,
        "deployment": None,
        "shadows": [],
        "origin": "stream",
        "declaration_version": 1,
        "by": [f"k{number}"],
    }


def outcome(number: int, at_ms: int, partition: int, offset: int, label: float) -> dict[str, Any]:
    return {
        "key": f"k{number}",
        "prediction_partition": partition,
        "prediction_offset": offset,
        "at_ms": at_ms,
        "settled_at_ms": at_ms + DAY,
        "status": "labelled",
        "label": label,
        "label_class": None,
        "revision": 0,
        "version": None,
        "score": None,
        "suspect": False,
    }


def workshop(bus: MemoryBus, folder: Path) -> Workshop:
    return Workshop(bus, MemoryBlobs(), folder, "cluster", "1.0", "0" * 64)


def order(champion: Mapping[str, Any] | None = None) -> Order:
    return Order(declared(LOOP).model_dump(by_alias=True, mode="json"), "r1", "first", AT, champion, champion)


def event(found: Mapping[str, Any]) -> ModelTrained:
    return ModelTrained.model_validate({**found["trained"], "wall_s": 1.0, "signature": "signed"})


async def test_a_request_becomes_a_model_with_all_that_made_it(tmp_path: Path) -> None:
    shop = workshop(bus_with(LOOP), tmp_path)
    trained = event(await fulfil(shop, order()))
    assert trained.gate.verdict == "first"
    assert trained.fits == 2
    assert trained.dataset.rows == (await gather(shop.bus, tmp_path, LOOP, AT)).rows.at_ms.size
    assert {(one.topic, one.partition) for one in trained.dataset.ranges} == {
        (topic, partition)
        for topic in (topics.predictions("offers"), topics.outcomes("offers"))
        for partition in range(2)
    }
    assert Scorer.load(trained.model.format, shop.blobs.get(trained.model.digest)).spec.categories == ("place",)
    assert shop.blobs.has(trained.model.skops_digest)
    kept = pl.read_parquet(shop.blobs.get(trained.dataset.blob))
    assert kept.columns == ["key", "at_ms", "price", "place", "label"]
    assert kept["at_ms"].is_sorted()
    assert trained.reference.signals["loss"].counts


async def test_the_cache_grows_by_what_is_new_and_may_be_lost(tmp_path: Path) -> None:
    bus = bus_with(LOOP, rows=600)
    first = (await gather(bus, tmp_path, LOOP, AT)).rows
    write(bus, LOOP, range(600, ROWS))
    grown = (await gather(bus, tmp_path, LOOP, AT)).rows
    assert len(grown) > len(first)
    shutil.rmtree(tmp_path)
    assert (await gather(bus, tmp_path, LOOP, AT)).rows.digest() == grown.digest()
    assert grown.digest() == (await gather(bus_with(LOOP), tmp_path / "other", LOOP, AT)).rows.digest()


async def test_a_refit_gives_the_same_model_from_the_log_and_from_the_blob(tmp_path: Path) -> None:
    shop = workshop(bus_with(LOOP), tmp_path)
    trained = event(await fulfil(shop, order()))
    write(shop.bus, LOOP, range(ROWS, ROWS + 50))  # type: ignore[arg-type]  # the bus is the one in memory
    from_log = await again(shop.bus, shop.blobs, LOOP, trained)
    assert (from_log.source, from_log.digest) == ("log", trained.model.digest)
    assert from_log.rows_digest == trained.dataset.digest
    from_blob = await again(bus_with(LOOP, rows=1), shop.blobs, LOOP, trained)
    assert (from_blob.source, from_blob.digest) == ("blob", trained.model.digest)
    assert from_blob.rows_digest == trained.dataset.digest
    assert not from_blob.changed


async def test_a_model_that_failed_its_gate_is_reproduced_too(tmp_path: Path) -> None:
    shop = workshop(bus_with(LOOP, signal=0.0), tmp_path)
    trained = event(await fulfil(shop, order()))
    assert trained.gate.verdict == "failed"
    assert (await again(shop.bus, shop.blobs, LOOP, trained)).digest == trained.model.digest


async def test_a_loop_without_rows_says_what_to_wait_for(tmp_path: Path) -> None:
    with pytest.raises(TooFewMaturedRowsError, match="wait for labels"):
        await fulfil(workshop(bus_with(LOOP, rows=0), tmp_path), order())


async def test_features_called_like_the_datasets_own_columns_keep_their_values(tmp_path: Path) -> None:
    assert declaration  # the loop's own names are what users chose: `label` is one of them
    from trimtab.trainer.adapters.columns import from_table, table

    loop = offers(features={"row": {"label": "price", "place": "place"}})
    rows = (await gather(bus_with(LOOP), tmp_path, LOOP, AT)).rows
    renamed = from_table(loop, table(rows).rename({"price": "feature label"}))
    assert renamed.number_names == ("label",)
    np.testing.assert_array_equal(renamed.numbers, rows.numbers)
    assert table(renamed).columns == ["key", "at_ms", "feature label", "place", "label"]
