"""The demo's figures, for scripts and for the terminal."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from trimtab.cli.report.data import Report
from trimtab.cli.report.words import verdicts

Figures = Mapping[str, float | int | None]


def summary(report: Report, *, wall_s: float, peak_rss_mb: float) -> Figures:
    """`summary.json`: counts, and each contender's metrics under `<metric>_<contender>`."""
    measured = {f"{m}_{c.name}": round(v, 5) for c in report.contenders for m, v in c.metrics.items()}
    within = {
        f"auc_within_day_{c.name}": round(c.within_day_auc, 5)
        for c in report.contenders
        if c.within_day_auc is not None
    }
    refits = {"refits": next((c.refits for c in report.contenders if c.name == "loop"), 0)}
    whole = {"wall_s": round(wall_s, 1), "peak_rss_mb": round(peak_rss_mb)}
    return {**report.counts, **refits, **measured, **within, **whole}


def told(report: Report, figures: Figures, place: Path, console: Console) -> None:
    """The figures and the sentences on the terminal."""
    console.rule("[bold]what it was worth")
    table = Table()
    names = list(dict.fromkeys(m for c in report.contenders for m in c.metrics))
    for title in ("contender", *names, "AUC within a day", "refits", "rows"):
        table.add_column(title, justify="left" if title == "contender" else "right")
    for one in report.contenders:
        values = [f"{one.metrics[name]:.4f}" if name in one.metrics else "–" for name in names]
        within = "–" if one.within_day_auc is None else f"{one.within_day_auc:.4f}"
        table.add_row(one.title, *values, within, str(one.refits), f"{one.rows:,}")
    console.print(table)
    for sentence in verdicts(report):
        console.print(f"• {sentence}")
    console.print("  ".join(f"{name} {value:,}" for name, value in report.counts.items()))
    console.print(f"{figures['wall_s']} s, at most {figures['peak_rss_mb']:,} MB; the report: {place / 'report.html'}")
