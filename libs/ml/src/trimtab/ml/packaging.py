"""Packaging: a fitted pipeline becomes blobs that are served and kept, behind a parity gate.

ONNX is what is served, if it says on real and on made-up rows what scikit-learn says; else the skops blob is. Both are
made without pickle, and the same fitted pipeline gives the same bytes.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import skl2onnx
import skops.io
from numpy.typing import NDArray
from onnx import StringStringEntryProto
from onnx.helper import make_opsetid
from skl2onnx.common import _container, utils
from skl2onnx.common._topology import Variable
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

from trimtab.ml.errors import MalformedModelError, UntrustedTypeError
from trimtab.ml.estimators import trusted
from trimtab.ml.scoring import ONNX_ERRORS, SPEC_KEY, Categories, Format, ModelSpec, Scorer, Scores, Vectors
from trimtab.ml.skops_archive import reproducible
from trimtab.ml.training import Fitted

TOLERANCE = 1e-4
"""The largest difference that is served: of a probability; of a value relative to its size or the values' spread."""
REAL_ROWS = 2_000
OPSET = 21


@dataclass(frozen=True, slots=True)
class Parity:
    """How far ONNX was from scikit-learn. `max_difference` is infinite where there was no ONNX model to ask."""

    rows: int
    max_difference: float
    passed: bool


@dataclass(frozen=True, slots=True)
class Package:
    """The blobs of one model. `digest` and `format` say which one is served."""

    format: Format
    digest: str
    skops: bytes
    skops_digest: str
    onnx: bytes | None
    onnx_digest: str | None
    parity: Parity
    obstacle: str | None

    @property
    def blob(self) -> bytes:
        """The blob that is served."""
        return self.skops if self.onnx is None or self.format == "skops" else self.onnx


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A few vectors."""

    numbers: NDArray[np.float64]
    categories: Categories


def package(fitted: Fitted, rows: Vectors) -> Package:
    """Both blobs and the verdict on which is served. `rows`: real vectors to compare on (at most 2,000 are used).

    Raises UntrustedTypeError when the model holds types that a reader would refuse.
    """
    archive = to_skops(fitted)
    skops_digest = hashlib.sha256(archive).hexdigest()
    try:
        onnx = to_onnx(fitted)
        parity, obstacle = compare(fitted, Scorer.load("onnx", onnx), rows), None
    except (*_CONVERSION_ERRORS, *ONNX_ERRORS) as error:
        onnx, parity, obstacle = None, Parity(0, float("inf"), False), f"{type(error).__name__}: {error}"
    onnx_digest = None if onnx is None else hashlib.sha256(onnx).hexdigest()
    served = onnx_digest if parity.passed and onnx_digest else skops_digest
    return Package(
        format="onnx" if served == onnx_digest else "skops",
        digest=served,
        skops=archive,
        skops_digest=skops_digest,
        onnx=onnx,
        onnx_digest=onnx_digest,
        parity=parity,
        obstacle=obstacle,
    )


_CONVERSION_ERRORS = (
    MissingConverter,
    MissingShapeCalculator,
    MalformedModelError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
)
"""What skl2onnx raises on estimators it cannot convert; the skops blob is served then, and `obstacle` says why."""


def to_skops(fitted: Fitted) -> bytes:
    """The pipeline and its spec as a skops archive with reproducible bytes. Raises UntrustedTypeError."""
    content: Mapping[str, Any] = {SPEC_KEY: fitted.spec.to_json(), "pipeline": fitted.pipeline}
    archive = reproducible(skops.io.dumps(content))
    foreign = [name for name in skops.io.get_untrusted_types(data=archive) if not trusted(name)]
    if foreign:
        raise UntrustedTypeError(foreign)
    return archive


def to_onnx(fitted: Fitted) -> bytes:
    """The pipeline as an ONNX model: inputs `numbers` (float32) and `categories` (text), the spec in its metadata.

    Raises what skl2onnx raises for what it cannot convert.
    """
    spec = fitted.spec
    puts: list[tuple[str, Any]] = []
    if spec.numbers:
        puts.append(("numbers", FloatTensorType([None, len(spec.numbers) + len(spec.flagged)])))
    if spec.categories:
        puts.append(("categories", StringTensorType([None, len(spec.categories)])))
    options = {} if spec.task == "regression" else {"zipmap": False}
    with _CONVERTING, conversion(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skl2onnx reads attributes that scikit-learn is about to drop
        model = skl2onnx.convert_sklearn(
            fitted.pipeline, name="trimtab", initial_types=puts, options=options, target_opset=OPSET
        )
    opsets = sorted((one.domain, one.version) for one in model.opset_import)  # from a set: in any order
    del model.opset_import[:]
    model.opset_import.extend(make_opsetid(domain, number) for domain, number in opsets)
    model.metadata_props.append(StringStringEntryProto(key=SPEC_KEY, value=spec.to_json()))
    return bytes(model.SerializeToString(deterministic=True))


_CONVERTING = Lock()


@contextmanager
def conversion() -> Iterator[None]:
    """While it is open, skl2onnx converts as it should; not for two threads at once, for it changes skl2onnx itself.

    skl2onnx 1.20 puts numpy bools among the ints of a tree's attributes, which onnx refuses: they become ints. And it
    numbers some names through all conversions of a process: they begin anew, so that the same model is the same bytes.
    """
    make_node, names, subgraphs = _container.make_node, Variable._UNIQUE_NUMBER_, utils._unique_index["subgraph"]

    def make_plain_node(*positional: Any, **attributes: Any) -> Any:
        return make_node(*positional, **{name: _plain(value) for name, value in attributes.items()})

    _container.make_node, Variable._UNIQUE_NUMBER_, utils._unique_index["subgraph"] = make_plain_node, 0, 0
    try:
        yield
    finally:
        _container.make_node, Variable._UNIQUE_NUMBER_, utils._unique_index["subgraph"] = make_node, names, subgraphs


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [int(item) if isinstance(item, bool | np.bool_) else item for item in value]
    return value


def compare(fitted: Fitted, scorer: Scorer, rows: Vectors) -> Parity:
    """Score real and made-up rows both ways."""
    sample = parity_rows(fitted.spec, rows)
    ours, theirs = fitted.score(sample), scorer.score(sample)
    with np.errstate(invalid="ignore"):
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        difference = np.where(same, 0.0, np.abs(ours - theirs) / _scale(fitted, rows, ours))
    largest = float(np.nan_to_num(difference, nan=np.inf).max())
    return Parity(len(sample.numbers), largest, largest <= TOLERANCE)


def _scale(fitted: Fitted, rows: Vectors, ours: Scores) -> Scores | float:
    """What a difference is measured in: 1 for probabilities; for values their spread on real rows, or their size."""
    if fitted.spec.task != "regression":
        return 1.0
    return np.maximum(np.abs(ours), float(np.nanstd(fitted.score(_thinned(rows)))) + 1e-12)


def _thinned(rows: Vectors) -> Sample:
    """At most 2,000 of the rows, evenly over time."""
    count = len(rows.numbers)
    chosen = np.unique(np.linspace(0, count - 1, num=min(count, REAL_ROWS), dtype=np.intp))
    return Sample(rows.numbers[chosen], rows.categories[chosen])


def parity_rows(spec: ModelSpec, rows: Vectors) -> Sample:
    """Real rows evenly over time, then each odd value in each column of a real row, then all columns odd at once.

    Odd numbers: missing, ±infinity, 2^24 + 1 (float32 cannot tell it from 2^24), 0, -1. Odd categories: missing, empty,
    unseen.
    """
    real = _thinned(rows)
    numbers, categories = [real.numbers], [real.categories]
    base_numbers, base_categories = real.numbers[:1], real.categories[:1]
    for value in (np.nan, np.inf, -np.inf, 2.0**24 + 1, 0.0, -1.0):
        odd = np.repeat(base_numbers, len(spec.numbers) + 1, axis=0)
        np.fill_diagonal(odd, value)
        odd[-1:] = value
        numbers.append(odd)
        categories.append(np.repeat(base_categories, len(odd), axis=0))
    for text in (None, "", "\u2400never seen"):
        changed = np.repeat(base_categories, len(spec.categories) + 1, axis=0)
        for column in range(len(spec.categories)):
            changed[column, column] = text
        changed[-1:] = text
        categories.append(changed)
        numbers.append(np.repeat(base_numbers, len(changed), axis=0))
    return Sample(np.concatenate(numbers), np.concatenate(categories))
