"""Scoring: a packaged model and vectors in, scores out.

A model sees two tensors: its numbers (float32, NaN where missing) and its categories (text). Both are made here, for
training, parity gate and serving alike, so that no format sees anything that another does not.
"""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol
from zipfile import BadZipFile

import msgspec
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

_UNREADABLE = (
    BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
    NotImplementedError,
    RecursionError,
)
"""What skops and scikit-learn raise on the blob of a model that was damaged before it got its digest."""

ONNX_BLOCK = 2
"""onnxruntime has a routine of its own for a single row."""

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
        """The inverse of `to_json`. Raises ValueError for what it did not write."""
        found = msgspec.json.decode(text, type=cls)
        places = range(len(found.numbers))
        if len(found.centres) != len(places) or any(place not in places for place in found.flagged):
            raise ValueError("its spec speaks of numbers that it does not have")
        return found


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


def whole_blocks(numbers: Numbers, categories: Categories, block: int) -> tuple[Numbers, Categories]:
    """The rows, with the last one repeated up to a multiple of `block`; [n, k] and [n, c], n > 0.

    What multiplies matrices takes the rows of an unfinished block by another routine, which sums in another order: the
    same row would have other last bits alone than in company.
    """
    missing = -len(numbers) % block
    if not missing:
        return numbers, categories
    rows = np.minimum(np.arange(len(numbers) + missing), len(numbers) - 1)
    return numbers[rows], categories[rows]


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
        """Read a blob, and have it score a row. Raises UnknownFormatError, MalformedModelError, UntrustedTypeError."""
        if format not in _LOADERS:
            raise UnknownFormatError(format)
        try:
            found = cls(*_LOADERS[format](blob))
            found.score(_nothing_known(found.spec))
        except (*ONNX_ERRORS, *_UNREADABLE) as error:
            raise MalformedModelError(format, f"{type(error).__name__}: {error}") from error
        return found

    def score(self, vectors: Vectors) -> Scores:
        """Scores in the vectors' order, float64.

        binary: [n] the probability of true; regression: [n] the value; multiclass: [n, classes] probabilities in the
        order of `spec.classes`. A row's score is the same to the bit whichever rows are beside it. Raises
        VectorShapeError.
        """
        if len(vectors.numbers) == 0:
            return np.empty((0, len(self.spec.classes)) if self.spec.task == "multiclass" else 0)
        return self._run(*tensors(self.spec, vectors))


def _load_onnx(blob: bytes) -> tuple[ModelSpec, Run]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised; printed as well it would only be noise
    session = onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])
    text = session.get_modelmeta().custom_metadata_map.get(SPEC_KEY)
    if text is None:
        raise MalformedModelError("onnx", f"it has no {SPEC_KEY!r} metadata")
    spec = ModelSpec.from_json(text)
    taken = {put.name for put in session.get_inputs()}
    given = [session.get_outputs()[-1].name]

    def run(numbers: Numbers, categories: Categories) -> Scores:
        feed = dict(zip(("numbers", "categories"), whole_blocks(numbers, categories, ONNX_BLOCK), strict=True))
        (raw,) = session.run(given, {name: feed[name] for name in taken})
        return shape_scores(spec.task, raw[: len(numbers)])

    return spec, run


def _load_skops(blob: bytes) -> tuple[ModelSpec, Run]:
    import skops.io  # the fallback alone needs scikit-learn, whose import is slow and large

    from trimtab.ml.estimators import trusted
    from trimtab.ml.pipelines import raw_scores

    types = skops.io.get_untrusted_types(data=blob)
    unknown = [name for name in types if not trusted(name)]
    if unknown:
        raise UntrustedTypeError(unknown)
    content: dict[str, Any] = skops.io.loads(blob, trusted=types)
    spec = ModelSpec.from_json(content[SPEC_KEY])
    pipeline = content["pipeline"]

    def run(numbers: Numbers, categories: Categories) -> Scores:
        return shape_scores(spec.task, raw_scores(pipeline, spec.task, numbers, categories))

    return spec, run


_LOADERS: Mapping[str, Callable[[bytes], tuple[ModelSpec, Run]]] = {"onnx": _load_onnx, "skops": _load_skops}


@dataclass(frozen=True, slots=True)
class _Row:
    numbers: NDArray[np.float64]
    categories: NDArray[np.object_]


def _nothing_known(spec: ModelSpec) -> _Row:
    """A vector with nothing but missing values."""
    return _Row(np.full((1, len(spec.numbers)), np.nan), np.full((1, len(spec.categories)), None, object))


def shape_scores(task: Task, raw: NDArray[Any]) -> Scores:
    """From what a model gives ([n, classes] or [n, 1]) to what `Scorer.score` promises."""
    raw = np.asarray(raw, dtype=np.float64)
    if task == "multiclass":
        return raw
    return np.ascontiguousarray(raw[:, 1]) if task == "binary" else raw.reshape(-1)
