"""Model blobs and the deployments that name them: taken in whole, or refused and told, and the one before goes on."""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnx
from hypothesis import strategies as st
from trimtab.contracts import control, topics
from trimtab.contracts.control import DeploymentChanged, ModelRef
from trimtab.loops.vectors import Vectors, names_of
from trimtab.ml import packaging, training
from trimtab.ml.datasets import Dataset
from trimtab.ml.scoring import SPEC_KEY
from trimtab.predictor.adapters.deployments import DeploymentsView
from trimtab.predictor.core import score
from trimtab.runtime.records import Record
from trimtab.store.blobs import BlobStore

from tests.fuzz.entry import Check, Counted, Entry, LostError
from tests.fuzz.values import JSON, dumped, mutated
from tests.fuzz.written import LOOP, REGISTRY


class Change(NamedTuple):
    """What is done to a model: bytes of the blob, of the file under its digest, its spec, its archive's schema."""

    format: str
    kind: int
    place: int
    junk: bytes
    spec: Any


@cache
def _package() -> packaging.Package:
    """A model of the loop's features, fitted on made-up rows."""
    rng = np.random.default_rng(0)
    names = LOOP.features
    prices = rng.normal(size=(400, 1))
    rows = Dataset(
        number_names=tuple(name for name in names.names if name not in names.categorical),
        category_names=tuple(names.categorical),
        keys=np.array([f"k{n}" for n in range(400)], dtype=object),
        at_ms=np.arange(400, dtype=np.int64),
        numbers=prices,
        categories=np.array(["top", "side"], dtype=object)[rng.integers(0, 2, (400, 1))],
        labels=(prices[:, 0] + 0.3 * rng.normal(size=400) > 0).astype(np.float64),
        versions=np.full(400, -1, dtype=np.int64),
        scores=np.full(400, np.nan),
    )
    return packaging.package(training.fit(LOOP.model, "binary", rows, seed=1), rows)


def _blob(change: Change) -> bytes:
    made = _package()
    blob = made.skops if change.format == "skops" or made.onnx is None else made.onnx
    at = change.place % len(blob)
    match change.kind:
        case 0:
            return blob[:at]
        case 1:
            return blob[:at] + change.junk + blob[at + len(change.junk) :]
        case 2:
            return change.junk
        case 3:
            return blob
    text = dumped(change.spec) if change.kind == 4 else change.junk
    return _onnx_with(blob, text) if change.format == "onnx" else _skops_with(blob, change, text)


def _onnx_with(blob: bytes, spec: bytes) -> bytes:
    model = onnx.load_model_from_string(blob)
    for entry in model.metadata_props:
        if entry.key == SPEC_KEY:
            entry.value = spec.decode("utf-8", "replace")
    return bytes(model.SerializeToString())


def _skops_with(blob: bytes, change: Change, text: bytes) -> bytes:
    """The archive with a place of its schema changed."""
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(blob)) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            held = source.read(name)
            if name == "schema.json":
                places = [n for n in range(len(held)) if held[n : n + 1] in (b'"', b":", b"{", b"[")]
                at = places[change.place % len(places)]
                held = held[:at] + text[:12] + held[at + 1 :]
            target.writestr(name, held)
    return out.getvalue()


def _spec() -> Mapping[str, Any]:
    return {
        "task": "binary", "numbers": ["price"], "categories": ["place"],
        "centres": [0.0], "flagged": [0], "classes": [],
    }  # fmt: skip


@contextmanager
def _deployed() -> Iterator[Check]:
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):  # onnxruntime prints what it also raises
        blobs = BlobStore(Path(folder).as_uri())
        good = blobs.put(_package().blob)
        reference = ModelRef(
            version=1, digest=good, format=_package().format, features_digest=LOOP.features.digest, classes=None
        )

        def check(batch: Sequence[Change]) -> Counted:
            view = DeploymentsView(LOOP, blobs, REGISTRY.verifier())
            view.apply([_record(1, reference)])
            for number, change in enumerate(batch, 2):
                digest = _kept(blobs, Path(folder), change)
                view.apply([_record(number, reference.model_copy(update={"digest": digest, "format": change.format}))])
            view.apply([_record(len(batch) + 2, reference)])
            newest = view.deployments.newest()
            if newest is None or newest.sequence != len(batch) + 2:
                raise LostError("the good deployment behind the others is not taken in")
            for deployment in view.deployments.ordered:
                _scores(view, deployment.effective_at_ms)
            taken = len(view.deployments.ordered) - 2
            if taken + len(view.refused) != len(batch):
                raise LostError(f"{taken} taken in, {len(view.refused)} refused, of {len(batch)}")
            return Counted(taken, len(view.refused))

        yield check


def _kept(blobs: BlobStore, folder: Path, change: Change) -> str:
    """The digest of the changed blob; of kind 6 the file under it is damaged afterwards, of kind 7 it is gone."""
    digest = blobs.put(_blob(change))
    if change.kind == 6:
        (folder / digest).write_bytes(change.junk)
    if change.kind == 7:
        (folder / digest).unlink()
    return digest


def _record(sequence: int, champion: ModelRef) -> Record:
    event = DeploymentChanged(
        loop="offers", at_ms=0, sequence=sequence, effective_at_ms=sequence * 1000, champion=champion, shadows=[],
        cause="promoted", request_id=None, note=None, signature="",
    )  # fmt: skip
    signed = event.model_copy(update={"signature": REGISTRY.sign(json.loads(control.encode(event)))})
    return Record(topics.DEPLOYMENT_CHANGED, 0, sequence, b"offers", control.encode(signed))


def _scores(view: DeploymentsView, at_ms: int) -> None:
    """What was taken in can score: else every ask of the loop would stand still."""
    vectors = Vectors(
        names_of(LOOP),
        numbers=np.array([[1.5], [np.nan]]),
        categories=np.array([["top"], [None]], dtype=object),
        ages_ms=np.empty((2, 0), np.int64),
    )
    times = np.array([at_ms, at_ms], np.int64)
    score(view.deployed(times), times, vectors)


def entries() -> list[Entry]:
    """Signed deployments of blobs that something happened to."""
    changes = st.builds(
        Change,
        st.sampled_from(["onnx", "skops"]),
        st.integers(0, 7),
        st.integers(0, 2**20),
        st.binary(min_size=1, max_size=12),
        st.one_of(mutated(_spec()), JSON),
    )
    return [Entry("model blobs", changes, 10, _deployed, weight=1)]
