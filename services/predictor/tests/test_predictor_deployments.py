"""Deployments are taken in whole and signed by the registry, or not at all."""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from trimtab.contracts import control, topics
from trimtab.contracts.control import DeploymentChanged, ModelRef
from trimtab.loops.vectors import VectorNames, Vectors
from trimtab.ml.datasets import Dataset
from trimtab.ml.packaging import package
from trimtab.ml.scoring import SPEC_KEY
from trimtab.ml.training import fit
from trimtab.predictor.adapters.deployments import DeploymentsView
from trimtab.runtime.records import Record
from trimtab.store.blobs import Blobs, BlobStore, MemoryBlobs
from trimtab.store.errors import StoreError, StoreReadOnlyError, StoreUnreachableError
from trimtab.store.signing import Signer
from trimtab.testing.bucket import State, bucket
from trimtab.testing.declarations import offers

LOOP = offers()
REGISTRY, STRANGER = Signer.generate(), Signer.generate()


def change(
    sequence: int,
    signer: Signer = REGISTRY,
    champion: ModelRef | None = None,
    loop: str = "offers",
    shadows: Sequence[ModelRef] = (),
) -> Record:
    event = DeploymentChanged(
        loop=loop,
        at_ms=0,
        sequence=sequence,
        effective_at_ms=sequence * 1000,
        champion=champion,
        shadows=list(shadows),
        cause="first",
        request_id="r",
        note=None,
        signature="",
    )
    signed = event.model_copy(update={"signature": signer.sign(json.loads(control.encode(event)))})
    return Record(topics.DEPLOYMENT_CHANGED, 0, sequence, loop.encode(), control.encode(signed))


def ref(**changes: Any) -> ModelRef:
    fields = {"version": 1, "digest": "0" * 64, "format": "onnx", "features_digest": LOOP.features.digest}
    return ModelRef(**{**fields, **changes})


def blob(**spec: Any) -> bytes:
    """An ONNX model that gives each row's number back twice, with this spec."""
    given, said = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, width])
        for name, width in (("numbers", 1), ("said", 2))
    )
    node = onnx.helper.make_node("Concat", ["numbers", "numbers"], ["said"], axis=1)
    graph = onnx.helper.make_graph([node], "twice", [given], [said])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    numbers, categories = ["price"], ["place"]
    right = {
        "task": "binary",
        "numbers": numbers,
        "categories": categories,
        "centres": [0.0],
        "flagged": [],
        "classes": [],
    }
    spec = {**right, **spec}
    model.metadata_props.append(onnx.StringStringEntryProto(key=SPEC_KEY, value=json.dumps(spec)))
    return bytes(model.SerializeToString())


@pytest.fixture
def view() -> DeploymentsView:
    return DeploymentsView(LOOP, MemoryBlobs(), REGISTRY.verifier())


def test_a_signed_deployment_is_taken_in(view: DeploymentsView) -> None:
    view.apply([change(1)])
    newest = view.deployments.newest()
    assert newest is not None
    assert newest.sequence == 1
    assert not view.refused


def test_a_forged_one_is_refused_and_the_one_before_goes_on(view: DeploymentsView) -> None:
    view.apply([change(1), change(2, STRANGER)])
    newest = view.deployments.newest()
    assert newest is not None
    assert newest.sequence == 1
    assert list(view.refused) == [2]


@pytest.mark.parametrize(
    ("champion", "said"),
    [
        (ref(), "0000"),
        (ref(features_digest="1" * 64), "other features"),
    ],
)
async def test_a_model_that_cannot_be_served_is_refused(view: DeploymentsView, champion: ModelRef, said: str) -> None:
    view.apply([change(1, champion=champion)])
    await view.prepare()
    assert view.deployments.newest() is None
    assert said in view.refused[1]


async def test_a_shadow_of_other_features_is_left_out_and_the_champion_serves() -> None:
    blobs = MemoryBlobs()
    view = DeploymentsView(LOOP, blobs, REGISTRY.verifier())
    model = blob()
    champion = ref(version=3, digest=MemoryBlobs().put(model))
    shadows = [ref(version=2, features_digest="1" * 64), ref(version=1, features_digest="2" * 64)]
    view.apply([change(1, champion=champion, shadows=shadows)])
    await view.prepare()
    assert view.deployments.newest() is None
    blobs.put(model)
    await view.look()
    newest = view.deployments.newest()
    assert newest is not None
    assert newest.champion is not None
    assert (newest.champion.version, newest.shadows, newest.left_out) == (3, [], [2, 1])
    assert not view.refused


async def test_a_damaged_model_is_refused() -> None:
    blobs = MemoryBlobs()
    digest = blobs.put(b"no model")
    view = DeploymentsView(LOOP, blobs, REGISTRY.verifier())
    view.apply([change(1, champion=ref(digest=digest))])
    await view.prepare()
    assert view.deployments.newest() is None
    assert 1 in view.refused


class Away:
    """A store that does not answer, until it does."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self.put, self.has, self._blobs = blobs.put, blobs.has, blobs
        self.failure: StoreError | None = None

    def get(self, digest: str) -> bytes:
        if self.failure is not None:
            raise self.failure
        return self._blobs.get(digest)


@pytest.fixture(scope="module")
def model() -> bytes:
    """One of the loop that can be served."""
    count = 40
    rows = Dataset(
        number_names=("price",),
        category_names=("place",),
        keys=np.array([str(n) for n in range(count)], dtype=object),
        at_ms=np.arange(count, dtype=np.int64),
        numbers=np.arange(count, dtype=np.float64)[:, None],
        categories=np.full((count, 1), "top", dtype=object),
        labels=np.arange(count, dtype=np.float64) % 2,
        versions=np.full(count, -1, dtype=np.int64),
        scores=np.full(count, np.nan),
    )
    return package(fit(LOOP.model, LOOP.task, rows, 1), rows).blob


@pytest.mark.parametrize(
    "failure", [StoreUnreachableError("s3://models", "no answer"), StoreReadOnlyError("s3://models", "denied")]
)
async def test_a_store_that_was_away_is_asked_again(failure: StoreError, model: bytes) -> None:
    blobs = Away(MemoryBlobs())
    blobs.failure = failure
    view = DeploymentsView(LOOP, blobs, REGISTRY.verifier())
    view.apply([change(1), change(2, champion=ref(digest=blobs.put(model)))])
    await view.prepare()
    newest = view.deployments.newest()
    assert newest is not None
    assert newest.sequence == 1
    assert str(failure) in view.refused[2]
    blobs.failure = None
    await view.look()
    newest = view.deployments.newest()
    assert newest is not None
    assert newest.champion is not None
    assert not view.refused


async def test_a_blob_that_was_damaged_is_served_once_it_is_whole(tmp_path: Path, model: bytes) -> None:
    blobs = BlobStore(tmp_path.as_uri())
    digest = blobs.put(model)
    (tmp_path / digest).write_bytes(model[:-1] + b"x")
    view = DeploymentsView(LOOP, blobs, REGISTRY.verifier())
    view.apply([change(1, champion=ref(digest=digest))])
    await view.prepare()
    assert view.deployments.newest() is None
    assert "is damaged" in view.refused[1]
    (tmp_path / digest).write_bytes(model)
    await view.look()
    assert view.deployments.newest() is not None
    assert not view.refused


def test_other_loops_and_what_keeps_no_schema_are_passed_over(view: DeploymentsView) -> None:
    view.apply([change(1, loop="others"), Record(topics.DEPLOYMENT_CHANGED, 0, 5, b"offers", b"{}")])
    assert view.deployments.newest() is None


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"task": None}, "not a model packaged by Trimtab"),
        ({"numbers": 7}, "not a model packaged by Trimtab"),
        ({"centres": []}, "speaks of numbers that it does not have"),
        ({"flagged": [3]}, "speaks of numbers that it does not have"),
        ({"numbers": ["weight"]}, "other features"),
        ({"categories": []}, "other features"),
    ],
)
async def test_a_model_that_could_not_score_is_refused_and_the_one_before_goes_on(
    spec: dict[str, Any], why: str
) -> None:
    blobs = MemoryBlobs()
    view = DeploymentsView(LOOP, blobs, REGISTRY.verifier())
    good, bad = blobs.put(blob()), blobs.put(blob(**spec))
    view.apply([change(1, champion=ref(digest=good)), change(2, champion=ref(digest=bad))])
    await view.prepare()
    newest = view.deployments.newest()
    assert newest is not None
    assert newest.sequence == 1
    assert why in view.refused[2]


class Counted(MemoryBlobs):
    """A store that counts how often each blob is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: Counter[str] = Counter()

    def get(self, digest: str) -> bytes:
        self.read[digest] += 1
        return super().get(digest)


def serving(view: DeploymentsView, at_ms: int) -> int | None:
    """Which version scores an ask at that time; it does score one."""
    times = np.array([at_ms], dtype=np.int64)
    deployment = view.deployed(times).at(at_ms)
    if deployment is None or deployment.champion is None:
        return None
    deployment.champion.scorer.score(ONE)
    return deployment.champion.version


ONE = Vectors(
    VectorNames(("price",), ("place",), ()), np.ones((1, 1)), np.array([["top"]], object), np.empty((1, 0), np.int64)
)


def history(blobs: Blobs, count: int) -> list[ModelRef]:
    """Models of a loop's versions 1 to `count`, each with a blob of its own."""
    return [ref(version=n, digest=blobs.put(blob(centres=[float(n)]))) for n in range(1, count + 1)]


async def test_of_a_long_history_only_what_serves_is_loaded_and_the_others_by_asks_of_their_time() -> None:
    blobs = Counted()
    view = DeploymentsView(LOOP, blobs, REGISTRY.verifier(), keep_bytes=10**6)
    refs = history(blobs, 50)
    view.apply([change(one.version, champion=one) for one in refs])
    await view.prepare()
    assert blobs.read == {refs[-1].digest: 1}
    assert [serving(view, 7_500), serving(view, 7_600), serving(view, 99_000)] == [7, 7, 50]
    assert blobs.read == {refs[-1].digest: 1, refs[6].digest: 1}


async def test_models_that_were_not_used_for_longest_leave_memory_and_those_that_serve_stay() -> None:
    blobs = Counted()
    refs = history(blobs, 4)
    two = len(blobs.get(refs[0].digest)) + len(blobs.get(refs[1].digest))
    blobs.read.clear()
    view = DeploymentsView(LOOP, blobs, REGISTRY.verifier(), keep_bytes=two)
    view.apply([change(one.version, champion=one) for one in refs])
    await view.prepare()
    for version in (1, 2, 1, 3, 4, 1, 2):
        assert serving(view, 1_000 * version) == version
    assert [blobs.read[one.digest] for one in refs] == [1, 2, 1, 1]


async def test_an_earlier_deployment_whose_model_is_gone_leaves_its_time_to_the_one_before_until_it_is_back() -> None:
    blobs = MemoryBlobs()
    first, second, third = history(blobs, 3)
    found = MemoryBlobs()
    for one in (first, third):
        found.put(blobs.get(one.digest))
    view = DeploymentsView(LOOP, found, REGISTRY.verifier())
    view.apply([change(one.version, champion=one) for one in (first, second, third)])
    await view.prepare()
    assert not view.refused
    assert [serving(view, at_ms) for at_ms in (2_500, 1_500, 3_500)] == [1, 1, 3]
    assert list(view.refused) == [2]
    found.put(blobs.get(second.digest))
    await view.look()
    assert serving(view, 2_500) == 2
    assert not view.refused


async def test_one_that_arrives_while_asks_are_answered_is_loaded_beside_them() -> None:
    blobs = Counted()
    first, second, _ = history(blobs, 3)
    arrived = asyncio.Event()
    view = DeploymentsView(LOOP, blobs, REGISTRY.verifier(), keep_bytes=10**6, arrived=arrived.set)
    view.apply([change(1, champion=first)])
    await view.prepare()
    assert not arrived.is_set()
    assert serving(view, 9_000) == 1
    view.apply([change(2, champion=second)])
    assert arrived.is_set()
    assert (serving(view, 9_000), blobs.read[second.digest]) == (1, 0)
    await view.look()
    assert (serving(view, 9_000), blobs.read[second.digest]) == (2, 1)
    view.apply([change(3, champion=second, shadows=[first])])
    await view.look()
    newest = view.deployments.newest()
    assert newest is not None
    assert (newest.sequence, [one.version for one in newest.shadows]) == (3, [1])
    assert blobs.read == {first.digest: 1, second.digest: 1}


class Silent(MemoryBlobs):
    """A store that does not answer for as long as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answers = threading.Event(), threading.Event()
        self.answers.set()

    def get(self, digest: str) -> bytes:
        self.asked.set()
        assert self.answers.wait(60)
        return super().get(digest)


async def test_while_the_store_does_not_answer_asks_are() -> None:
    blobs = Silent()
    first, second = history(blobs, 2)
    view = DeploymentsView(LOOP, blobs, REGISTRY.verifier())
    view.apply([change(1, champion=first)])
    await view.prepare()
    assert serving(view, 9_000) == 1
    blobs.asked.clear()
    blobs.answers.clear()
    view.apply([change(2, champion=second)])
    looking = asyncio.create_task(view.look())
    assert await asyncio.to_thread(blobs.asked.wait, 60)
    assert (serving(view, 9_000), view.loading()) == (1, [2])
    blobs.answers.set()
    await looking
    assert (serving(view, 9_000), view.loading()) == (2, [])


async def test_at_a_start_a_store_that_does_not_answer_holds_up_the_view_alone() -> None:
    blobs = Silent()
    first, second = history(blobs, 2)
    blobs.answers.clear()
    view = DeploymentsView(LOOP, blobs, REGISTRY.verifier())
    view.apply([change(1, champion=first), change(2, champion=second)])
    preparing = asyncio.create_task(view.prepare())
    assert await asyncio.to_thread(blobs.asked.wait, 60)
    assert not preparing.done()
    blobs.answers.set()
    await preparing
    assert (serving(view, 9_000), view.refused) == (2, {})


@pytest.mark.parametrize("state", ["unavailable", "silent", "cut", "answer lost"])
async def test_while_the_bucket_is_away_the_model_before_serves_and_when_it_is_back_the_next(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bucket(monkeypatch.setenv) as made:
        blobs = BlobStore("s3://bucket/models", retries=1)
        first, second = history(blobs, 2)
        view = DeploymentsView(LOOP, blobs, REGISTRY.verifier())
        view.apply([change(1, champion=first)])
        await view.prepare()
        made.state = state
        view.apply([change(2, champion=second)])
        await view.look()
        assert (serving(view, 9_000), "cannot be used" in view.refused[2]) == (1, True)
        made.state = "serving"
        await view.look()
        assert (serving(view, 9_000), view.refused) == (2, {})
