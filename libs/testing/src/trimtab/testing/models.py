"""Control events about models, filled in, so that a test names only what it is about."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from trimtab.contracts.control import (
    Comparison,
    Dataset,
    Environment,
    GateResult,
    ModelTrained,
    OffsetRange,
    PairedDifference,
    Parity,
    PerformanceMeasured,
    Reference,
    TrainedModel,
)
from trimtab.testing.declarations import offers

DIGEST = "a" * 64


@cache
def features() -> str:
    """The digest of the features of `offers()`."""
    return offers().features.digest


def trained(  # each is one thing that tests vary
    request_id: str,
    *,
    at_ms: int = 0,
    loop: str = "offers",
    verdict: Literal["first", "passed", "failed"] = "passed",
    against: int | None = None,
    digest: str = DIGEST,
    rows: int = 1000,
    features_digest: str | None = None,
) -> ModelTrained:
    """A trained model whose gate compared it with version `against`. It is not signed.

    `features_digest` None: it takes the features of `offers()`.
    """
    compared = Comparison(
        against="constant" if against is None else "champion",
        version=against,
        challenger=0.4,
        other=0.5,
        difference=-0.1,
        low=-0.12,
        high=-0.08,
        rows=200,
        blocks=14,
        passed=verdict != "failed",
    )
    return ModelTrained(
        loop=loop,
        at_ms=at_ms,
        request_id=request_id,
        cause_kind="drift" if against else "first",
        model=TrainedModel(
            digest=digest,
            format="onnx",
            onnx_digest=digest,
            skops_digest=DIGEST,
            parity=Parity(rows=100, max_difference=1e-7, passed=True),
            recipe_digest=DIGEST,
            features_digest=features_digest or features(),
        ),
        dataset=Dataset(
            cluster_id="test",
            ranges=[OffsetRange(topic=f"{loop}.predictions", topic_id="t", partition=0, from_=0, to=rows)],
            rows=rows,
            positives=rows // 10,
            digest=DIGEST,
            blob=DIGEST,
            first_at_ms=0,
            last_at_ms=at_ms,
        ),
        metrics={"log_loss": 0.4},
        gate=GateResult(
            verdict=verdict, rule="not_worse", margin=0.02, confidence=0.9, metric="log_loss", comparisons=[compared]
        ),
        reference=Reference(look_ms=3_600_000, season_ms=0, from_ms=0, signals={}),
        fits=1,
        seed=1,
        code_version="test",
        lock_digest=DIGEST,
        environment=Environment(python="3.11", platform="test", packages={"scikit-learn": "1.9"}),
        wall_s=1.0,
        signature="",
    )


def measured(
    at_ms: int,
    *paired: PairedDifference,
    loop: str = "offers",
    rows: int = 1000,
    models: Sequence[Any] = (),
) -> PerformanceMeasured:
    """A measurement of so many matured rows."""
    return PerformanceMeasured(
        loop=loop,
        at_ms=at_ms,
        from_ms=0,
        matured_rows=rows,
        matured_positives=rows // 10,
        outcomes=rows,
        models=list(models),
        paired=list(paired),
    )


def difference(version: int, other: int, low: float, high: float, *, blocks: int = 7) -> PairedDifference:
    """`version` less `other` in a loss: an interval above 0 says that `other` is better."""
    return PairedDifference(
        version=version, other=other, rows=100, blocks=blocks, difference=(low + high) / 2, low=low, high=high
    )
