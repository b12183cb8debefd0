"""All stages of the data plane on the runtime, fed by users' records: none parks, what is right is predicted once."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from trimtab.contracts import data, topics
from trimtab.feature import wiring as feature
from trimtab.ingest import wiring as ingest
from trimtab.ingest.settings import Settings as IngestSettings
from trimtab.monitor import wiring as monitor
from trimtab.predictor import wiring as predictor
from trimtab.predictor.settings import Settings as PredictorSettings
from trimtab.runtime import parking
from trimtab.runtime.host import Service
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Stage
from trimtab.store.signing import make_key_pair
from trimtab.testing import data as data_of
from trimtab.testing import run_stages
from trimtab.testing.declarations import declared

from tests.fuzz.entry import Check, Counted, Entry, LostError
from tests.fuzz.shop import EVENTS, LOOP, NOW_MS
from tests.fuzz.sources import INPUTS, Sent


def services(folder: Path, bus: MemoryBus) -> list[Service]:
    """Those of the data plane, wired as in their processes."""
    store = {"url": (folder / "blobs").as_uri()}
    _, public = make_key_pair(folder, "registry")
    obeyed = {"store": store, "signing": {"public_key_file": public}, "data_dir": folder}
    return [
        ingest.wired(IngestSettings.model_validate({"store": store}), bus),
        feature.wired(bus),
        predictor.wired(PredictorSettings.model_validate(obeyed), bus),
        monitor.wired(bus),
    ]


@contextmanager
def _stream() -> Iterator[Check]:
    with TemporaryDirectory() as folder, asyncio.Runner() as runner:
        wired = services(Path(folder), MemoryBus())

        def check(batch: Sequence[Sent]) -> Counted:
            stages = [stage for service in wired for stage in _stages(service)]
            return runner.run(_through(stages, batch))

        yield check


def _stages(service: Service) -> Sequence[Stage]:
    work = None if service.work is None else service.work(declared(LOOP))
    return () if work is None else work.stages


async def _through(stages: Sequence[Stage], batch: Sequence[Sent]) -> Counted:
    outs = [
        Out(topics.source("shop", one.event), one.key, one.value, one.headers, number % LOOP.partitions)
        for number, one in enumerate(batch)
    ]
    bus = MemoryBus({topics.source("shop", event): LOOP.partitions for event in EVENTS}, now_ms=lambda: NOW_MS)
    await run_stages(stages, outs, bus=bus, now_ms=lambda: NOW_MS)
    _none_parked(bus, stages)
    rejected = [data.decode(data.Rejected, one.value or b"") for one in data_of(bus, topics.rejected("shop"))]
    predicted = [one.key for one in data_of(bus, topics.predictions("shop"))]
    refused = {(one.source_topic, one.source_partition, one.source_offset) for one in rejected}
    wanted = {
        str(one.id).encode()
        for one, out in zip(batch, _places(bus, outs), strict=True)
        if _is_wanted(one, out, refused)
    }
    if missing := wanted - set(predicted):
        raise LostError(f"no prediction for {missing}")
    if len(predicted) != len(set(predicted)):
        raise LostError("a key has two predictions")
    return Counted(len(batch) - len(rejected), len(rejected))


def _places(bus: MemoryBus, outs: Sequence[Out]) -> Sequence[tuple[str, int, int]]:
    """Where each record stands."""
    counts: dict[tuple[str, int], int] = {}
    found = []
    for out in outs:
        place = out.topic, out.partition or 0
        counts[place] = counts.get(place, -1) + 1
        found.append((*place, counts[place]))
    return found


def _is_wanted(one: Sent, place: tuple[str, int, int], refused: set[Any]) -> bool:
    """Whether a record has to lead to a prediction: an order that is right, and that no other's time has put off."""
    return one.id is not None and one.event == "order" and place not in refused


def _none_parked(bus: MemoryBus, stages: Sequence[Stage]) -> None:
    for stage in stages:
        for record in bus.records(stage.changelog):
            if record.key == parking.KEY and record.value is not None:
                raise AssertionError(parking.decode(record.value).told(f"{stage.group}-{record.partition}"))


def entries() -> list[Entry]:
    """All stages at once."""
    return [Entry("source topics → data plane", INPUTS, 40, _stream, weight=2, least=30)]
