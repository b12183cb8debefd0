"""From the log to the store and back: the cache, the rows, the same model once more."""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from trimtab.contracts import topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.control import ModelTrained
from trimtab.loops.model import Loop
from trimtab.ml.scoring import Scorer
from trimtab.runtime.bus import Part
from trimtab.runtime.edge import Placed
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out
from trimtab.runtime.schemas import published
from trimtab.store.blobs import BlobStore, MemoryBlobs
from trimtab.store.errors import BlobDamagedError, BlobMissingError
from trimtab.testing.declarations import declared, offers
from trimtab.testing.history import Send, write_history
from trimtab.trainer.adapters import cache
from trimtab.trainer.adapters.again import again
from trimtab.trainer.adapters.columns import OUTCOMES, from_table, predictions, table
from trimtab.trainer.adapters.orders import Order
from trimtab.trainer.adapters.work import Workshop, fulfil, gather, read_ahead
from trimtab.trainer.errors import TooFewMaturedRowsError

DAY = 86_400_000
LOOP = offers()
AT = 60 * DAY
ROWS = 1_500


async def bus_with(loop: Loop, rows: int = ROWS, signal: float = 1.5, on: MemoryBus | None = None) -> MemoryBus:
    bus = on or MemoryBus()
    for topic in (topics.predictions(loop.name), topics.outcomes(loop.name)):
        bus.create(topic, loop.partitions)
    await write_history(bus.send, loop, range(rows), of=ROWS, signal=signal)
    return bus


def workshop(bus: MemoryBus, folder: Path) -> Workshop:
    return Workshop(bus, MemoryBlobs(), folder, "cluster", "1.0", "0" * 64)


def order(champion: Mapping[str, Any] | None = None) -> Order:
    return Order(declared(LOOP).model_dump(by_alias=True, mode="json"), "r1", "first", AT, champion, champion)


def event(found: Mapping[str, Any]) -> ModelTrained:
    return ModelTrained.model_validate({**found["trained"], "wall_s": 1.0, "signature": "signed"})


async def test_a_request_becomes_a_model_with_all_that_made_it(tmp_path: Path) -> None:
    shop = workshop(await bus_with(LOOP), tmp_path)
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
    bus = await bus_with(LOOP, rows=600)
    first = (await gather(bus, tmp_path, LOOP, AT)).rows
    await write_history(bus.send, LOOP, range(600, ROWS), of=ROWS)
    grown = (await gather(bus, tmp_path, LOOP, AT)).rows
    assert len(grown) > len(first)
    shutil.rmtree(tmp_path)
    assert (await gather(bus, tmp_path, LOOP, AT)).rows.digest() == grown.digest()
    assert grown.digest() == (await gather(await bus_with(LOOP), tmp_path / "other", LOOP, AT)).rows.digest()


def segments(folder: Path) -> set[Path]:
    return set(folder.rglob("*.parquet"))


async def test_what_is_read_ahead_is_on_the_disk_when_a_request_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "AHEAD_RECORDS", 400)
    bus = await bus_with(LOOP, rows=300)
    await read_ahead(bus, tmp_path, LOOP)
    assert not segments(tmp_path)
    await write_history(bus.send, LOOP, range(300, ROWS), of=ROWS)
    await read_ahead(bus, tmp_path, LOOP)
    ahead = segments(tmp_path)
    assert len(ahead) == 2 * LOOP.partitions
    found = (await gather(bus, tmp_path, LOOP, AT)).rows
    assert segments(tmp_path) == ahead
    assert found.digest() == (await gather(bus, tmp_path / "other", LOOP, AT)).rows.digest()


class Slow(MemoryBus):
    """Whose readers give what they have at once, and then nothing for a long time."""

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.slow = asyncio.Event(), True

    async def reader(self, starts: Mapping[Part, int]) -> Any:
        reader = await super().reader(starts)
        if not self.slow:
            return reader
        polls = iter([reader.poll(0.0)])

        async def poll(_timeout_s: float) -> Any:
            for given in polls:
                return await given
            self.waits.set()
            return await asyncio.sleep(60)

        return SimpleNamespace(poll=poll, positions=lambda: starts, close=reader.close)


async def test_reading_ahead_that_is_given_up_keeps_what_it_has_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "AHEAD_RECORDS", 400)
    bus = Slow()
    await bus_with(LOOP, on=bus)
    reading = asyncio.create_task(read_ahead(bus, tmp_path, LOOP))
    await bus.waits.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert len(segments(tmp_path)) == LOOP.partitions, "of the predictions; the outcomes were not begun"
    bus.slow = False
    found = (await gather(bus, tmp_path, LOOP, AT)).rows
    assert found.digest() == (await gather(bus, tmp_path / "other", LOOP, AT)).rows.digest()


async def test_nothing_is_read_ahead_of_a_loop_that_is_gone(tmp_path: Path) -> None:
    await read_ahead(MemoryBus(), tmp_path, LOOP)
    assert not segments(tmp_path)


@pytest.mark.parametrize("signal", [1.5, 0.0])
async def test_rows_made_ready_beside_the_fits_are_those_of_the_model(tmp_path: Path, signal: float) -> None:
    bus = await bus_with(LOOP, signal=signal)
    found = []
    with ThreadPoolExecutor(1) as beside:
        for shop in (workshop(bus, tmp_path), replace(workshop(bus, tmp_path), beside=beside)):
            found.append((await fulfil(shop, order()))["trained"])
            assert shop.blobs.has(found[-1]["dataset"]["blob"])
    after, ahead = found
    assert ahead == after


MORE = {"name": "more", "type": ["null", "string"], "default": None}


def by_another_release(bus: MemoryBus) -> Send:
    """Writes records with a field more than this release knows."""
    codecs = {}
    for topic, schema in (
        (topics.predictions(LOOP.name), predictions(LOOP).schema),
        (topics.outcomes(LOOP.name), OUTCOMES.schema),
    ):
        wider = {**schema, "fields": [MORE, *schema["fields"]]}
        bus.append(published([wider], by="test", at_ms=0))
        codecs[topic] = AvroCodec(schema), AvroCodec(wider)

    def rewritten(out: Out) -> Out:
        own, wider = codecs[out.topic]
        value = out.value and wider.encode({**own.decode(out.value), "more": "said"})
        return Out(out.topic, out.key, value, out.headers, out.partition)

    async def send(outs: Sequence[Out]) -> Sequence[Placed]:
        return await bus.send([rewritten(out) for out in outs])

    return send


async def test_rows_that_another_release_wrote_are_training_rows_as_well(tmp_path: Path) -> None:
    bus = await bus_with(LOOP, rows=600)
    bus.create(topics.SCHEMAS, 1)
    await write_history(by_another_release(bus), LOOP, range(600, ROWS), of=ROWS)
    rows = (await gather(bus, tmp_path / "mixed", LOOP, AT)).rows
    assert rows.digest() == (await gather(await bus_with(LOOP), tmp_path / "own", LOOP, AT)).rows.digest()


async def test_a_refit_gives_the_same_model_from_the_log_and_from_the_blob(tmp_path: Path) -> None:
    bus = await bus_with(LOOP)
    shop = workshop(bus, tmp_path)
    trained = event(await fulfil(shop, order()))
    await write_history(bus.send, LOOP, range(ROWS, ROWS + 50), of=ROWS)
    from_log = await again(shop.bus, shop.blobs, LOOP, trained)
    assert (from_log.source, from_log.digest) == ("log", trained.model.digest)
    assert from_log.rows_digest == trained.dataset.digest
    from_blob = await again(await bus_with(LOOP, rows=1), shop.blobs, LOOP, trained)
    assert (from_blob.source, from_blob.digest) == ("blob", trained.model.digest)
    assert from_blob.rows_digest == trained.dataset.digest
    assert not from_blob.changed


async def test_rows_that_are_gone_or_damaged_are_no_model_again(tmp_path: Path) -> None:
    shop = Workshop(
        await bus_with(LOOP), BlobStore((tmp_path / "blobs").as_uri()), tmp_path, "cluster", "1.0", "0" * 64
    )
    trained = event(await fulfil(shop, order()))
    kept, empty = tmp_path / "blobs" / trained.dataset.blob, await bus_with(LOOP, rows=1)
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    with pytest.raises(BlobDamagedError):
        await again(empty, shop.blobs, LOOP, trained)
    kept.unlink()
    with pytest.raises(BlobMissingError):
        await again(empty, shop.blobs, LOOP, trained)


async def test_a_model_that_failed_its_gate_is_reproduced_too(tmp_path: Path) -> None:
    shop = workshop(await bus_with(LOOP, signal=0.0), tmp_path)
    trained = event(await fulfil(shop, order()))
    assert trained.gate.verdict == "failed"
    assert (await again(shop.bus, shop.blobs, LOOP, trained)).digest == trained.model.digest


async def test_a_loop_without_rows_says_what_to_wait_for(tmp_path: Path) -> None:
    with pytest.raises(TooFewMaturedRowsError, match="wait for labels"):
        await fulfil(workshop(await bus_with(LOOP, rows=0), tmp_path), order())


async def test_features_called_like_the_datasets_own_columns_keep_their_values(tmp_path: Path) -> None:
    loop = offers(features={"row": {"label": "price", "place": "place"}})
    rows = (await gather(await bus_with(LOOP), tmp_path, LOOP, AT)).rows
    renamed = from_table(loop, table(rows).rename({"price": "feature label"}))
    assert renamed.number_names == ("label",)
    np.testing.assert_array_equal(renamed.numbers, rows.numbers)
    assert table(renamed).columns == ["key", "at_ms", "feature label", "place", "label"]
