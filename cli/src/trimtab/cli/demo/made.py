"""The report of a loop, made of what stands in its topics."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trimtab.cli.demo.collect import Collected
from trimtab.cli.demo.promises import Sent, broken, lost
from trimtab.cli.report.data import Contender, Mark, Report, RetrainRow
from trimtab.contracts import topics
from trimtab.contracts.control import ModelTrained, QualityViolated, RetrainRequested
from trimtab.loops.model import Loop


def report(loop: Loop, collected: Collected, contenders: Sequence[Contender], played: Sent) -> Report:
    """Everything that the page shows."""
    events = collected.control
    labelled = collected.outcomes.filter("labelled").select("prediction_partition", "prediction_offset").n_unique()
    predictions = collected.predictions
    span = (int(predictions["at_ms"].min() or 0), int(predictions["at_ms"].max() or 0))  # type: ignore[arg-type]
    return Report(
        loop=loop.name,
        metric=loop.model.metric,
        from_ms=span[0],
        to_ms=span[1],
        counts={
            "events": sum(played.counts.values()),
            "predictions": len(collected.keys),
            "outcomes": labelled,
            "rejected": len(collected.rejected),
            "lost": len(lost(played, collected)),
            "duplicated": collected.copies(),
            "drifts": len(events[topics.DRIFT_DETECTED]),
            "retrains_requested": len(events[topics.RETRAIN_REQUESTED]),
            "models_trained": len(events[topics.MODEL_TRAINED]),
            "promotions": sum(e.cause in {"first", "promoted"} for e in events[topics.DEPLOYMENT_CHANGED]),
            "rollbacks": sum(e.cause == "rolled_back" for e in events[topics.DEPLOYMENT_CHANGED]),
        },
        contenders=contenders,
        marks=sorted(marks(events), key=lambda mark: mark.at_ms),
        retrains=[retrain_row(event, events) for event in events[topics.RETRAIN_REQUESTED]],
        declined=Counter(event.reason for event in events[topics.RETRAIN_DECLINED]),
        broken=tuple(broken(played, collected)),
    )


def marks(events: Mapping[str, Sequence[Any]]) -> Iterator[Mark]:
    """What happened, on the time axis."""
    for event in events[topics.DRIFT_DETECTED]:
        drifted = ", ".join(signal.name for signal in event.signals if signal.drifted) or "no single signal"
        yield Mark("drift", event.at_ms, f"{drifted}: evidence {event.evidence:,.0f} of {event.threshold:,.0f}")
    yield from holds(events)
    for event in events[topics.RETRAIN_REQUESTED]:
        yield Mark("retrain", event.at_ms, cause_text(event))
    for event in events[topics.MODEL_TRAINED]:
        if event.gate.verdict == "failed":
            yield Mark("failed", event.at_ms, gate_text(event))
    for event in events[topics.DEPLOYMENT_CHANGED]:
        if event.champion is not None and event.cause in {"first", "promoted", "commanded"}:
            yield Mark("promoted", event.effective_at_ms, f"version {event.champion.version}")
        if event.champion is not None and event.cause == "rolled_back":
            yield Mark("rolled_back", event.effective_at_ms, f"back to version {event.champion.version}")


def holds(events: Mapping[str, Sequence[Any]]) -> Iterator[Mark]:
    """Each violation with its restoration."""
    restored = list(events[topics.QUALITY_RESTORED])
    for event in events[topics.QUALITY_VIOLATED]:
        end = next(
            (r for r in restored if (r.rule, r.subject) == (event.rule, event.subject) and r.at_ms > event.at_ms), None
        )
        yield Mark("hold", event.at_ms, why_held(event), None if end is None else end.at_ms)


def why_held(event: QualityViolated) -> str:
    """A share of bad ones above its limit; of a source that has fallen silent, the share of its events that came."""
    if event.rule == "silent":
        return f"{event.subject} has fallen silent: {event.share:.1%} of the expected events came"
    return f"{event.rule} of {event.subject}: {event.share:.1%}, limit {event.limit:.1%}"


def retrain_row(event: RetrainRequested, events: Mapping[str, Sequence[Any]]) -> RetrainRow:
    """A request with its verdict and what the watch of its version said last."""
    trained = next((t for t in events[topics.MODEL_TRAINED] if t.request_id == event.request_id), None)
    version = next((r.version for r in events[topics.MODEL_REGISTERED] if r.request_id == event.request_id), None)
    if trained is None:
        failed = next((f for f in events[topics.TRAINING_FAILED] if f.request_id == event.request_id), None)
        why = "no answer yet" if failed is None else failed.error
        return RetrainRow(event.at_ms, cause_text(event), "no model", None, 0, why)
    promoted = trained.gate.verdict != "failed"
    gain, rows = watched(version, event.champion_version, events) if promoted else (None, 0)
    return RetrainRow(
        event.at_ms,
        cause_text(event),
        trained.gate.verdict,
        version,
        trained.dataset.rows,
        gate_text(trained),
        gain,
        rows,
    )


def watched(
    version: int | None, before: int | None, events: Mapping[str, Sequence[Any]]
) -> tuple[tuple[float, float, float] | None, int]:
    """The paired comparison of a version with the one before it on the most rows, as a gain."""
    found = [
        pair
        for measured in events[topics.PERFORMANCE_MEASURED]
        for pair in measured.paired
        if (pair.version, pair.other) == (version, before)
    ]
    if not found:
        return None, 0
    widest = max(found, key=lambda pair: pair.rows)
    return (-widest.difference, -widest.high, -widest.low), widest.rows


def cause_text(event: RetrainRequested) -> str:
    """Why it was asked for."""
    signals = f" ({', '.join(event.cause.signals)})" if event.cause.signals else ""
    return f"{event.cause.kind}{signals}"


def gate_text(event: ModelTrained) -> str:
    """The comparison with the champion, or with a baseline where there is none."""
    found = sorted(event.gate.comparisons, key=lambda one: one.against != "champion")
    if not found:
        return "nothing to compare with"
    one = found[0]
    return f"{event.gate.metric} {one.challenger:.4f} against {one.other:.4f} of {one.against} on {one.rows:,} rows"
