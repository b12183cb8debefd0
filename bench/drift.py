"""False alarms and delays of the drift detectors: the code of the monitor on flights, on shuffled flights, on coins.

python bench/drift.py [--years N] [--runs N]

1. The flights year under the first model, kept: every alarm, named and dated.
2. Years in which nothing changes: the same days, shuffled within their weekday. The promise is at most one alarm per
   60 days on average, over all signals.
3. Delays where something does change on day 60 of such a year, and how well the change is dated, against ADWIN's.
4. Independent errors (coins): the delay after their rate rises by 4, 12 and 49 points, against ADWIN event by event.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from river.drift import ADWIN
from trimtab.cli.backtest.command import recorded_events
from trimtab.cli.backtest.recorded import Recording, recording
from trimtab.contracts import times
from trimtab.loops import declaration
from trimtab.loops.model import Loop
from trimtab.ml import metrics, reference
from trimtab.ml.detectors import Alarm, Looks, LoopDetector
from trimtab.ml.scoring import Scorer
from trimtab.ml.seasons import DAY_MS, Floats
from trimtab.ml.signals import Kind, weighted
from trimtab.trainer.core import Job, train

FLIGHTS = Path(__file__).parent.parent / "examples" / "flights"
WEEK = 7
SHIFT_AT = 60
COINS = ((0.12, 0.161), (0.138, 0.254), (0.051, 0.538))
BEFORE, AFTER, WARM_UP, COIN_LOOK = 12_000, 8_000, 2_000, 50
COIN_PROMISE = 100_000
"""Events between two false alarms, on average, that the detector of coins is asked for."""
NEVER = 9_999
NAMED = 3


@dataclass(frozen=True, slots=True)
class Watched:
    """The looks of a stretch without a refit, its detector, and how many of the looks are its reference."""

    detector: LoopDetector
    looks: Looks
    reference: int

    def column(self, name: str) -> int:
        return [signal.name for signal in self.detector.signals].index(name)


def watched(loop: Loop, read: Recording) -> Watched:
    """The flights year as the first model saw it: fitted once, never again."""
    history = read.history
    first_ms = history.first_due_ms()
    assert first_ms is not None
    trained = train(Job(loop, first_ms, None, None), history.matured(first_ms, None))
    scorer = Scorer.load(trained.package.format, trained.package.blob)
    metric = metrics.check(loop.model.metric, loop.task)
    from_ms, look_ms = trained.reference.from_ms, trained.reference.look_ms
    rows = history.asks.between(from_ms, int(history.asks.at_ms[-1]) + 1)
    labels = history.labels[-len(rows) :]
    scores = scorer.score(rows)
    losses = np.where(np.isnan(labels), np.nan, metrics.row_losses(metric, np.nan_to_num(labels), scores))
    known = reference.known_values(trained.rows)
    columns = reference.signals(reference.Scored(rows, scores, losses), metric, known)
    kinds: list[tuple[str, Kind]] = [(column.name, column.kind) for column in columns]
    detector = LoopDetector(
        weighted(kinds, loop.drift.weights), look_ms, loop.drift.season_ms, loop.drift.false_alarms_ms / look_ms
    )
    which = (rows.at_ms - from_ms) // look_ms
    means, counts = zip(*(by_look(column.values, which) for column in columns), strict=True)
    start = from_ms + look_ms * np.arange(int(which[-1]) + 1)
    made = len(next(iter(trained.reference.signals.values())).means)
    return Watched(detector, Looks(start, np.column_stack(means), np.column_stack(counts)), made)


def by_look(values: Floats, which: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
    """Mean and rows of each look."""
    held, size = np.isfinite(values), int(which[-1]) + 1
    counts = np.bincount(which[held], minlength=size)
    sums = np.bincount(which[held], weights=values[held], minlength=size)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), counts


def alarms(detector: LoopDetector, looks: Looks, first: int, until: int | None = None) -> list[tuple[int, Alarm]]:
    """The alarms with the number of their look; the looks before `first` are the reference."""
    evidence, found = detector.fresh(), list[tuple[int, Alarm]]()
    for t in range(first, len(looks)):
        seen = Looks(looks.start_ms[: t + 1], looks.means[: t + 1], looks.counts[: t + 1])
        evidence, alarm = detector.judge(evidence, seen)
        if alarm is not None:
            found.append((t, alarm))
            if until is not None and t >= until:
                break
    return found


def shuffled(looks: Looks, seed: int) -> Looks:
    """The same days in another order, each on a weekday of its own kind."""
    rng, order = np.random.default_rng(seed), np.arange(len(looks))
    weekday = looks.start_ms // DAY_MS % WEEK
    for day in range(WEEK):
        same = np.flatnonzero(weekday == day)
        order[same] = rng.permutation(same)
    return Looks(looks.start_ms, looks.means[order], looks.counts[order])


def real_year(console: Console, one: Watched) -> None:
    table = Table("alarm", "since", "evidence", "led by", "others that drifted", title="1. The year, one model kept")
    for _, alarm in alarms(one.detector, one.looks, one.reference):
        first, *others = [signal for signal in alarm.signals if signal.drifted]
        table.add_row(
            times.text(alarm.at_ms)[:10],
            times.text(alarm.since_ms)[:10],
            f"{alarm.evidence:.0f}",
            f"{first.name} {first.shift_sd or 0:+.1f} sd",
            ", ".join(signal.name for signal in others[:3])
            + (f" and {len(others) - 3} more" if len(others) > 3 else ""),
        )
    console.print(table)


def quiet_years(console: Console, one: Watched, years: int) -> None:
    began = time.process_time()
    found = [alarms(one.detector, shuffled(one.looks, year), one.reference) for year in range(years)]
    days = (len(one.looks) - one.reference) * one.detector.look_ms / DAY_MS
    per_60_days = np.mean([len(some) for some in found]) / days * 60
    first = [some[0][0] - one.reference if some else int(days) for some in found]
    a_look = (time.process_time() - began) / years / (len(one.looks) - one.reference)
    console.print(f"2. {years} years of shuffled days, {len(one.detector.signals)} signals")
    console.print(f"   alarms per 60 days: {per_60_days:.2f} (promised: at most 1)")
    console.print(f"   look of the first alarm: median {np.median(first):.0f}; {1000 * a_look:.1f} ms of CPU a look\n")


def changes(console: Console, one: Watched, runs: int) -> None:
    table = Table(
        "signal", "shift", "delay, looks", "found within 30", "dating error", "ADWIN's", title="3. Changes on day 60"
    )
    for name, sd in (("loss", 1.0), ("loss", 2.0), ("estimate", 2.0), ("score", 2.0)):
        delays, ours, theirs = list[int](), list[int](), list[int]()
        for run in range(runs):
            looks = shuffled(one.looks, 1_000 + run).newest(10**6)
            at, column = one.reference + SHIFT_AT, one.column(name)
            means = looks.means[: at + 60].copy()
            means[at:, column] += sd * np.nanstd(looks.means[:, column])
            changed = Looks(looks.start_ms[: at + 60], means, looks.counts[: at + 60])
            found = [(t, a) for t, a in alarms(one.detector, changed, one.reference, at) if t >= at]
            delays.append(found[0][0] - at + 1 if found else NEVER)
            if found and found[0][1].signals[0].name == name:
                ours.append(abs(int(np.searchsorted(looks.start_ms, found[0][1].since_ms)) - at))
                theirs.append(abs(adwin_date(means[: found[0][0] + 1, column]) - at))
        share = np.mean(np.array(delays) <= 30)
        table.add_row(name, f"{sd:+.0f} sd", delay_text(delays), f"{share:.0%}", date_text(ours), date_text(theirs))
    console.print(table)


def delay_text(delays: Sequence[int]) -> str:
    middle = np.median(delays)
    return "never" if middle == NEVER else f"{middle:.0f}"


def date_text(errors: Sequence[int]) -> str:
    return f"{np.median(errors):.0f} looks" if errors else ""


def windows(**options: int) -> Any:
    """river's ADWIN as it comes, but for the options."""
    return ADWIN(delta=0.002, **options)  # type: ignore[no-untyped-call]  # river has no types


def adwin_date(means: Floats) -> int:
    """The look after which ADWIN's window begins, on the looks of one signal."""
    detector = windows(clock=1, grace_period=5)
    for mean in means[np.isfinite(means)].tolist():
        detector.update(mean)
    return len(means) - int(detector.width)


def coins(console: Console, runs: int) -> None:
    title = f"4. Independent errors, {runs} runs"
    table = Table("errors rise", "delay, events", "false", "ADWIN's delay", "false", "ratio", title=title)
    for before, after in COINS:
        ours = [coin_delay(before, after, seed, conformal) for seed in range(runs)]
        theirs = [coin_delay(before, after, seed, adwin) for seed in range(runs)]
        (mine, mine_false), (other, other_false) = (judged(found) for found in (ours, theirs))
        ratio = f"{mine / other:.2f}"
        table.add_row(f"{before} → {after}", f"{mine:.0f}", str(mine_false), f"{other:.0f}", str(other_false), ratio)
    console.print(table)


def judged(found: Sequence[int]) -> tuple[float, int]:
    """Median delay, and how often there was an alarm before the change."""
    late = [delay for delay in found if delay > 0]
    return float(np.median(late)), len(found) - len(late)


def coin_delay(before: float, after: float, seed: int, detect: Callable[[NDArray[np.float64]], int | None]) -> int:
    """Events from the change to the first alarm; 0 or less: a false one; NEVER: none."""
    rng = np.random.default_rng(seed)
    errors = np.concatenate([rng.random(BEFORE) < before, rng.random(AFTER) < after]).astype(np.float64)
    at = detect(errors)
    return NEVER if at is None else at - BEFORE


def conformal(errors: NDArray[np.float64]) -> int | None:
    """Our detector on looks of 50 events, one ms an event; nothing but the errors is watched."""
    detector = LoopDetector(weighted([("loss", "loss")], {"loss": 1.0}), COIN_LOOK, 0, COIN_PROMISE / COIN_LOOK)
    means = errors.reshape(-1, COIN_LOOK).mean(axis=1)[:, None]
    looks = Looks(np.arange(len(means)) * COIN_LOOK, means, np.full(means.shape, COIN_LOOK))
    found = alarms(detector, looks, WARM_UP // COIN_LOOK, until=0)
    return found[0][1].at_ms if found else None


def adwin(errors: NDArray[np.float64]) -> int | None:
    """ADWIN on every event, told of rises only."""
    detector = windows()
    for t, error in enumerate(errors.tolist()):
        before = detector.estimation
        detector.update(error)
        if detector.drift_detected and detector.estimation > before and t >= WARM_UP:
            return t + 1
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms and delays of the drift detectors.")
    parser.add_argument("--years", type=int, default=100, help="shuffled years (100)")
    parser.add_argument("--runs", type=int, default=60, help="runs with a change (60)")
    chosen = parser.parse_args()
    console = Console(width=120)
    loop = declaration.load(FLIGHTS)
    one = watched(loop, recording(loop, recorded_events(FLIGHTS, loop, None)))
    console.print(
        f"flights: {len(one.looks)} looks of {one.detector.look_ms / DAY_MS:g} d, {one.reference} of them reference\n"
    )
    real_year(console, one)
    quiet_years(console, one, chosen.years)
    changes(console, one, chosen.runs // 2)
    coins(console, chosen.runs)


if __name__ == "__main__":
    main()
