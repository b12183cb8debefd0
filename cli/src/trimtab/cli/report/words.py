"""What the figures say, in sentences that do not flatter."""

from collections.abc import Iterator

from trimtab.cli.report.data import Contender, Report

CLOSE = 0.005
"""Log-loss (or any loss) closer than this share of its value counts as the same."""


def lower_is_better(metric: str) -> bool:
    """Whether smaller values of the metric are the better ones."""
    return metric not in {"auc", "accuracy"}


def verdicts(report: Report) -> Iterator[str]:
    """What was promised and not kept, one sentence per honest alternative, then what the detectors and the gate did."""
    yield from report.broken
    for other in report.alternatives():
        yield against(report.contender(other.beside or "loop"), other, report.metric)
    yield from effort(report)


def against(own: Contender, other: Contender, metric: str) -> str:
    """The loop compared with one alternative on the metric that decides."""
    a, b = own.metrics[metric], other.metrics[metric]
    better = (b - a) if lower_is_better(metric) else (a - b)
    refits = f"{number(own.refits, 'refit')} against {other.refits}"
    figures = f"{metric.replace('_', '-')} {a:.4f} against {b:.4f}, {refits}"
    if abs(better) <= CLOSE * abs(b):
        cheaper = "with fewer fits" if other.refits < own.refits else "with as many fits or more"
        return f"{other.title} did as well as the loop, {cheaper} ({figures})."
    if better > 0:
        return f"The loop did better than {lowered(other.title)} ({figures})."
    return f"{other.title} did better than the loop ({figures})."


def lowered(title: str) -> str:
    """A title inside a sentence."""
    return title[:1].lower() + title[1:] if title.startswith(("The ", "A ")) else title


def effort(report: Report) -> Iterator[str]:
    """What happened on the way: alarms, requests, verdicts, gains."""
    kinds = [mark.kind for mark in report.marks]
    yield (
        f"{number(kinds.count('drift'), 'drift alarm')} and {number(kinds.count('hold'), 'hold')}; "
        f"{number(len(report.retrains), 'retrain')}, "
        f"of which {sum(row.verdict != 'failed' for row in report.retrains)} were promoted and "
        f"{sum(row.verdict == 'failed' for row in report.retrains)} failed their gate; "
        f"{number(sum(report.declined.values()), 'cause')} declined."
    )
    watched = [row.gain for row in report.retrains if row.gain]
    if watched:
        helped = sum(low > 0 for _, low, _ in watched)
        harmed = sum(high < 0 for _, _, high in watched)
        yield (
            f"{number(len(watched), 'promotion')} with a watched predecessor: clearly better than it {helped}, "
            f"clearly worse {harmed}, no difference that the watch could tell {len(watched) - helped - harmed}."
        )


def number(count: int, noun: str) -> str:
    """A count with its noun: "1 hold", "3 holds"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
