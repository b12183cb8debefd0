"""Scoring: a packaged model and vectors in, scores out.

A model sees two tensors: its numbers (float32, NaN where missing) and its categories (text). Both are made here, for
training, parity gate and serving alike, so that no format sees anything that another does not.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol
from zipfile import BadZipFile

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from trimtab.ml.errors import MalformedModelError, UnknownFormatError, UntrustedTypeError, VectorShapeError

Task = Literal["binary", "multiclass", "regression"]
Format = Literal["onnx", "skops"]
Numbers = NDArray[np.float32]
Categories = NDArray[np.object_]
Scores = NDArray[np.float64]

MISSING = "\x1amissing"
"""How a missing category is spelled inside a model (a control character leads, no user's value is like it)."""

ONNX_ERRORS = (
    ort.Fail,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.NotImplemented,
    ort.RuntimeException,
)
"""What onnxruntime raises on a bad model (they share no base but Exception)."""

_NONE = np.array(None, dtype=object)

SPEC_KEY = "trimtab.model"
"""Under which key a blob carries its `ModelSpec`."""


class Vectors(Protocol):
    """What scoring asks of vectors (see `trimtab.loops.vectors.Vectors`)."""

    @property
    def numbers(self) -> NDArray[np.float64]:
        """[n, k] float64, NaN where missing."""
        ...

    @property
    def categories(self) -> NDArray[np.object_]:
        """[n, c] text, None where missing."""
        ...


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a model takes and gives; it travels inside the blob.

    `centres`: per number, what is subtracted in float64 before it becomes a float32. It is 0 unless the column's
    spread would drown in float32's 24 bits (times since the epoch do). `flagged`: the numbers (by position) for which a
    further column says whether they were missing, for estimators to which a missing number means nothing. `classes`:
    the class of each probability column (multiclass), else empty.
    """

    task: Task
    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    centres: tuple[float, ...]
    flagged: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Canonical JSON: the same spec is the same text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """The inverse of `to_json`."""
        raw = json.loads(text)
        return cls(
            task=raw["task"],
            numbers=tuple(raw["numbers"]),
            categories=tuple(raw["categories"]),
            centres=tuple(raw["centres"]),
            flagged=tuple(raw["flagged"]),
            classes=tuple(raw["classes"]),
        )


def tensors(spec: ModelSpec, vectors: Vectors) -> tuple[Numbers, Categories]:
    """The two tensors of a model. An infinity (1/0, or beyond float32) is no measurement and counts as missing.

    Raises VectorShapeError when the vectors have another number of columns.
    """
    expected = (len(spec.numbers), len(spec.categories))
    got = (vectors.numbers.shape[1], vectors.categories.shape[1])
    if got != expected:
        raise VectorShapeError(expected, got)
    return _numbers(spec, vectors.numbers), _categories(vectors.categories)


def _numbers(spec: ModelSpec, raw: NDArray[np.float64]) -> Numbers:
    if any(spec.centres):
        raw = raw - np.asarray(spec.centres)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.ascontiguousarray(raw, dtype=np.float32)
    infinite = np.isinf(numbers)
    if infinite.any():
        numbers = np.where(infinite, np.float32(np.nan), numbers)
    if not spec.flagged:
        return numbers
    return np.hstack([numbers, np.isnan(numbers[:, spec.flagged]).astype(np.float32)])


def _categories(raw: Categories) -> Categories:
    missing = np.equal(raw, _NONE)
    return np.where(missing, MISSING, raw) if missing.any() else raw


Run = Callable[[Numbers, Categories], Scores]


class Scorer:
    """A loaded model. Immutable, safe to share between threads, one thread a call.

    >>> Scorer.load("pickle", b"")
    Traceback (most recent call last):
    ...
    trimtab.ml.errors.UnknownFormatError: unknown model format 'pickle': a model is served as 'onnx' or as 'skops'
    """

    __slots__ = ("_run", "spec")

    def __init__(self, spec: ModelSpec, run: Run) -> None:
        self.spec = spec
        self._run = run

    @classmethod
    def load(cls, format: str, blob: bytes) -> "Scorer":
        """Read a blob. Raises UnknownFormatError, MalformedModelError, UntrustedTypeError."""
        if format == "onnx":
            return cls(*_load_onnx(blob))
        if format == "skops":
            return cls(*_load_skops(blob))
        raise UnknownFormatError(format)

    def score(self, vectors: Vectors) -> Scores:
        """Scores in the vectors' order, float64.

        binary: [n] the probability of true; regression: [n] the value; multiclass: [n, classes] probabilities in the
        order of `spec.classes`. Raises VectorShapeError.
        """
        if len(vectors.numbers) == 0:
            return np.empty((0, len(self.spec.classes)) if self.spec.task == "multiclass" else 0)
        return self._run(*tensors(self.spec, vectors))


def _load_onnx(blob: bytes) -> tuple[ModelSpec, Run]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised; printed as well it would only be noise
    try:
        session = onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])
    except ONNX_ERRORS as error:
        raise MalformedModelError("onnx", str(error)) from error
    text = session.get_modelmeta().custom_metadata_map.get(SPEC_KEY)
    if text is None:
        raise MalformedModelError("onnx", f"it has no {SPEC_KEY!r} metadata")
    spec = ModelSpec.from_json(text)
    taken = {put.name for put in session.get_inputs()}
    given = [session.get_outputs()[-1].name]

    def run(numbers: Numbers, categories: Categories) -> Scores:
        feed = {"numbers": numbers, "categories": categories}
        (raw,) = session.run(given, {name: feed[name] for name in taken})
        return shape_scores(spec.task, raw)

    return spec, run


def _load_skops(blob: bytes) -> tuple[ModelSpec, Run]:
    import skops.io  # the fallback alone needs scikit-learn, whose import is slow and large

    from trimtab.ml.estimators import trusted
    from trimtab.ml.pipelines import frame, raw_scores

    try:
        types = skops.io.get_untrusted_types(data=blob)
    except (BadZipFile, KeyError, ValueError) as error:
        raise MalformedModelError("skops", str(error)) from error
    unknown = [name for name in types if not trusted(name)]
    if unknown:
        raise UntrustedTypeError(unknown)
    content: dict[str, Any] = skops.io.loads(blob, trusted=types)
    spec = ModelSpec.from_json(content[SPEC_KEY])
    pipeline = content["pipeline"]

    def run(numbers: Numbers, categories: Categories) -> Scores:
        return shape_scores(spec.task, raw_scores(pipeline, spec.task, frame(numbers, categories)))

    return spec, run


def shape_scores(task: Task, raw: NDArray[Any]) -> Scores:
    """From what a model gives ([n, classes] or [n, 1]) to what `Scorer.score` promises."""
    raw = np.asarray(raw, dtype=np.float64)
    if task == "multiclass":
        return raw
    return np.ascontiguousarray(raw[:, 1]) if task == "binary" else raw.reshape(-1)
