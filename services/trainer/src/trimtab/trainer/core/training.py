"""One request: a candidate on the rows before the holdout, the gate, and the refit on everything if it passed."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trimtab.loops.model import Loop
from trimtab.ml import gate, metrics, packaging, reference, training
from trimtab.ml.datasets import Dataset
from trimtab.ml.errors import ModelError
from trimtab.ml.packaging import Package
from trimtab.ml.reference import Reference, Scored
from trimtab.ml.scoring import Scorer, Scores
from trimtab.ml.training import Fitted
from trimtab.trainer.core.rows import cut
from trimtab.trainer.errors import ModelFailedError

Verdict = Literal["first", "passed", "failed"]
Begun = Callable[[str], None]
"""Hears of each step of the work as it begins."""


@dataclass(frozen=True, slots=True)
class Known:
    """A model that is there already. `until_ms`: event time of the newest row it was fitted on.

    `features`: the digest of the features it takes (None: the loop's). `recipe`: how it was made, where known (see
    `training.declared_digest`).
    """

    version: int
    scorer: Scorer
    until_ms: int
    features: str | None = None
    recipe: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked for. `at_ms`: event time of the request; nothing later is looked at. `first`: the first model."""

    loop: Loop
    at_ms: int
    champion: Known | None
    first: Known | None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Compared:
    """One comparison of the gate. `against`: champion, constant or first_model."""

    against: str
    version: int | None
    comparison: gate.Comparison


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a job. `rows`: those of the packaged model. `metrics`: of the candidate, on the holdout.

    `rule`: by which it was compared with the champion. `fits`: that the verdict rests on, and the refit where it was
    shipped. `fit_s`: the seconds of CPU of those.
    """

    package: Package
    rows: Dataset
    metrics: Mapping[str, float]
    verdict: Verdict
    rule: gate.Rule
    compared: Sequence[Compared]
    reference: Reference
    fits: int
    fit_s: float


Train = Callable[["Job", Dataset, Begun], "Trained"]
"""How a job is done, see `train`."""


def unheard(_: str) -> None:
    """Nobody wants to know how far the work is."""


def train(job: Job, rows: Dataset, begun: Begun = unheard, beside: Executor | None = None) -> Trained:
    """Fit, judge and package. Deterministic: the same job and rows give the same bytes.

    `rows`: matured ones (see `matured`). `beside`: where the refit begins as early as the candidate's fit, in vain if
    the candidate fails; numerical libraries have to be on one thread each there, whatever `fit` asks of them. Without
    it the refit waits for the verdict. Raises TrainingError.
    """
    loop = job.loop
    begun("fit")
    parts = cut(loop, rows, job.at_ms)
    refit = partial(training.fit, loop.model, loop.task, rows, job.seed)
    refitted = refit if beside is None else beside.submit(refit).result
    try:
        candidate = training.fit(loop.model, loop.task, parts.fit, job.seed)
        begun("gate")
        scores = candidate.score(parts.held_out)
        compared = tuple(compare(job, candidate, scores, parts.fit, parts.held_out))
        verdict = judge(job, compared)
        served, used = candidate, parts.fit
        if verdict != "failed":
            begun("refit")
            served, used = refitted(), rows
        begun("package")
        package = packaging.package(served, used)
    except ModelError as error:
        raise ModelFailedError(str(error)) from error
    labels = codes(candidate, parts.held_out)
    metric = metrics.check(deciding(loop), loop.task)
    losses = metrics.row_losses(metric, labels, scores)
    return Trained(
        package=package,
        rows=used,
        metrics=metrics.measure(loop.task, labels, scores),
        verdict=verdict,
        rule=rule_of(job),
        compared=compared,
        reference=reference.build(used, Scored(parts.held_out, scores, losses), metric, loop.drift.season_ms),
        fits=1 if served is candidate else 2,
        fit_s=candidate.cpu_s if served is candidate else candidate.cpu_s + served.cpu_s,
    )


def judge(job: Job, compared: Sequence[Compared]) -> Verdict:
    """The verdict: everything that was compared must have been passed."""
    if not all(one.comparison.passed for one in compared):
        return "failed"
    return "first" if champion_of(job) is None else "passed"


def champion_of(job: Job) -> Known | None:
    """Who has to be challenged. A champion of other features cannot answer what is asked now: it does not count."""
    return job.champion if _answers(job, job.champion) else None


def first_of(job: Job) -> Known | None:
    """The first model, where it can answer and is not the champion itself."""
    first, champion = job.first, job.champion
    if first is None or not _answers(job, first):
        return None
    return None if champion is not None and champion.version == first.version else first


def _answers(job: Job, model: Known | None) -> bool:
    """Whether it takes the features that the loop has now."""
    return model is not None and model.features in (None, job.loop.features.digest)


def rule_of(job: Job) -> gate.Rule:
    """A refresh must not be worse; another recipe than the champion's must be better."""
    loop, champion = job.loop, champion_of(job)
    if champion is None or champion.recipe is None:
        return loop.gate.rule
    recipe = training.declared_digest(loop.model, loop.task, loop.train.window_ms, loop.features.digest)
    return loop.gate.rule if champion.recipe == recipe else "better"


def compare(job: Job, candidate: Fitted, scores: Scores, fit: Dataset, held_out: Dataset) -> list[Compared]:
    """The candidate against the champion and against each named baseline, each on rows that neither was fitted on."""
    found = []
    losses = losses_of(job.loop, candidate, held_out, scores)
    champion, first = champion_of(job), first_of(job)
    if champion is not None:
        found.append(against_model("champion", rule_of(job), job, champion, losses, held_out))
    for name in job.loop.gate.baselines:
        if name == "constant":
            constant = constant_scores(candidate, fit, len(held_out))
            theirs = losses_of(job.loop, candidate, held_out, constant)
            comparison = compared_losses(job, "better", held_out.at_ms, losses, theirs)
            found.append(Compared(name, None, comparison))
        elif name == "first_model" and first is not None:
            found.append(against_model(name, "not_worse", job, first, losses, held_out))
    return found


def against_model(
    name: str, rule: gate.Rule, job: Job, other: Known, losses: NDArray[np.float64], held_out: Dataset
) -> Compared:
    """The candidate against a model that serves or served, on rows later than that model's training."""
    later = held_out.at_ms > other.until_ms
    rows = held_out.take(later)
    theirs = losses_of(job.loop, other.scorer, rows, other.scorer.score(rows))
    return Compared(name, other.version, compared_losses(job, rule, rows.at_ms, losses[later], theirs))


def compared_losses(
    job: Job, rule: gate.Rule, at_ms: NDArray[np.int64], ours: NDArray[np.float64], theirs: NDArray[np.float64]
) -> gate.Comparison:
    """Paired losses under the loop's gate."""
    declared = job.loop.gate
    metric = metrics.check(deciding(job.loop), job.loop.task)
    judge_by = gate.Judge(metric, rule, declared.margin, declared.confidence, declared.block_ms, job.seed)
    return gate.compare_losses(judge_by, at_ms, ours, theirs)


def deciding(loop: Loop) -> str:
    """The metric that decides; a ranking has no loss of its own for a row, so the log-loss stands in for it."""
    return "log_loss" if loop.model.metric == "auc" else loop.model.metric


def losses_of(loop: Loop, model: Fitted | Scorer, rows: Dataset, scores: Scores) -> NDArray[np.float64]:
    """[n] what each row adds to the deciding metric."""
    return metrics.row_losses(metrics.check(deciding(loop), loop.task), codes(model, rows), scores)


def codes(model: Fitted | Scorer, rows: Dataset) -> NDArray[np.float64]:
    """Labels as metrics take them: 0/1, the value, or the position of the class among the model's."""
    if model.spec.task == "multiclass":
        return metrics.codes(rows.labels.astype(object), model.spec.classes)
    return rows.labels.astype(np.float64)


def constant_scores(candidate: Fitted, fit: Dataset, count: int) -> Scores:
    """What somebody says who knows the past alone: the share of each class, or the mean."""
    labels = codes(candidate, fit)
    if candidate.spec.task != "multiclass":
        return np.full(count, labels.mean())
    shares = np.bincount(labels.astype(np.int64), minlength=len(candidate.spec.classes)) / len(labels)
    return np.tile(shares, (count, 1))
