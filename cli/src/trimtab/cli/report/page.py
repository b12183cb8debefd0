"""The report as one HTML file without anything outside it, readable on a phone and on a desk."""

from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources

from trimtab.cli.report.data import Contender, Mark, PolicyRun, Report, RetrainRow
from trimtab.cli.report.svg import COLOURS, Track, day, timeline, tracks
from trimtab.cli.report.words import verdicts

UNBOUNDED = 1e300
"""Bounds beyond it stand for infinity, which JSON does not have."""
COLUMNS = {"auc": "AUC", "log_loss": "log-loss", "mse": "MSE", "rmse": "RMSE", "mae": "MAE", "brier": "Brier"}

Column = tuple[str, Sequence[str]]
"""Its name and its cells."""


def page(report: Report) -> str:
    """The whole document."""
    body = "".join(
        [
            f"<h1>{escape(report.loop)}: what the loop did, and what it was worth</h1>",
            f'<p class="soft">Event time {day(report.from_ms)} to {day(report.to_ms)}</p>',
            tiles(report),
            "<h2>In words</h2><ul>",
            *(f"<li>{escape(sentence)}</li>" for sentence in verdicts(report)),
            "</ul>",
            *charts(
                [one for one in report.contenders if one.name == "loop" or one in report.alternatives()],
                list(tracks(report.marks)),
                (report.from_ms, report.to_ms),
                report.metric,
            ),
            "<h2>Contenders on the same rows</h2>",
            contenders_table(report.contenders),
            "<h2>Retrains</h2>",
            retrains_table(report.retrains),
            "<h2>Alarms and holds</h2>",
            marks_table([m for m in report.marks if m.kind in {"drift", "hold", "rolled_back"}]),
        ]
    )
    return document(report.loop, body)


def policies_page(title: str, runs: Sequence[PolicyRun], whole: tuple[int, int], metric: str) -> str:
    """A document of a backtest: the charts, with each policy's marks in its colour, its metrics and what it took."""
    contenders = [run.contender for run in runs]
    rows = [track for index, run in enumerate(runs) for track in tracks(run.marks, index)]
    body = [
        f"<h1>{escape(title)}</h1>",
        '<p class="soft">The dots below the curves are what each policy did, in the colour of its curve.</p>',
        *charts(contenders, rows, whole, metric),
        "<h2>On the same rows</h2>",
        numbers_table("policy", [c.title for c in contenders], metric_columns(contenders)),
        "<h2>What it took</h2>",
        costs_table(runs),
    ]
    return document(title, "".join(body))


def document(title: str, body: str) -> str:
    """A self-contained HTML document."""
    style = (resources.files(__package__) / "page.css").read_text()
    view = '<meta name="viewport" content="width=device-width,initial-scale=1">'
    head = f'<meta charset="utf-8">{view}<title>{escape(title)}</title><style>{style}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body><main>{body}</main></body></html>"


def tiles(report: Report) -> str:
    """The counts that a sceptic asks for first."""
    shown = "".join(
        f'<div class="tile"><b>{value:,}</b><span>{escape(name.replace("_", " "))}</span></div>'
        for name, value in report.counts.items()
    )
    return f'<div class="tiles">{shown}</div>'


def charts(
    contenders: Sequence[Contender], rows: Sequence[Track], whole: tuple[int, int], metric: str
) -> Iterator[str]:
    """One chart for each metric that the contenders have week by week, for a wide and for a narrow window."""
    keys = "".join(
        f'<span class="key"><i style="background:var(--c{i % COLOURS})"></i>{escape(c.title)}</span>'
        for i, c in enumerate(contenders)
    )
    for shown in sorted(dict.fromkeys(m for c in contenders for m in c.weekly), key=lambda m: m != metric):
        yield f"<h2>{escape(COLUMNS.get(shown, shown))}, week by week</h2><p>{keys}</p>"
        for name, width in (("wide", 1040), ("narrow", 362)):
            yield f'<div class="{name}">{timeline(contenders, shown, rows, whole, width)}</div>'


def contenders_table(contenders: Sequence[Contender]) -> str:
    """Their metrics and how many fits each took."""
    *measured, rows = metric_columns(contenders)
    refits = ("refits", [str(c.refits) for c in contenders])
    return numbers_table("contender", [c.title for c in contenders], [*measured, refits, rows])


def metric_columns(contenders: Sequence[Contender]) -> list[Column]:
    """Pooled metrics, the mean within a day where there is one, and on how many rows."""
    names = list(dict.fromkeys(m for c in contenders for m in c.metrics))
    columns = [(COLUMNS.get(n, n), [number(c.metrics.get(n)) for c in contenders]) for n in names]
    if any(c.within_day_auc is not None for c in contenders):
        columns.append(("AUC within a day", [number(c.within_day_auc) for c in contenders]))
    return [*columns, ("rows", [f"{c.rows:,}" for c in contenders])]


def costs_table(runs: Sequence[PolicyRun]) -> str:
    """What each policy took."""
    columns = [
        ("models", [f"{run.cost.models:,}" for run in runs]),
        ("fits", [f"{run.cost.fits:,}" for run in runs]),
        ("CPU s", [f"{run.cost.cpu_s:,.1f}" for run in runs]),
        ("of it fits", [f"{run.cost.fit_cpu_s:,.1f}" for run in runs]),
    ]
    return numbers_table("policy", [run.contender.title for run in runs], columns)


def numbers_table(of: str, titles: Sequence[str], columns: Sequence[Column]) -> str:
    """One row a title."""
    head = "".join(f'<th class="n">{escape(name)}</th>' for name, _ in columns)
    rows = "".join(
        f"<tr><td>{escape(title)}</td>" + "".join(f'<td class="n">{cells[i]}</td>' for _, cells in columns) + "</tr>"
        for i, title in enumerate(titles)
    )
    return f'<div class="scroll"><table><tr><th>{escape(of)}</th>{head}</tr>{rows}</table></div>'


def number(value: float | None) -> str:
    """Four digits, or a dash."""
    return "–" if value is None else f"{value:.4f}"


def retrains_table(retrains: Sequence[RetrainRow]) -> str:
    """Each retrain with its cause, its gate and what its predecessor, kept as a shadow, says it gained."""
    head = "<th>asked at</th><th>cause</th><th>gate</th>"
    head += '<th class="n">version</th><th class="n">rows</th><th class="n">gain (interval)</th>'
    rows = "".join(
        f'<tr><td class="day">{day(r.at_ms)}</td><td>{escape(r.cause)}</td>'
        f"<td>{escape(r.verdict)}: {escape(r.gate)}</td>"
        f'<td class="n">{r.version or "–"}</td><td class="n">{r.rows:,}</td><td class="n">{gain(r)}</td></tr>'
        for r in retrains
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def gain(row: RetrainRow) -> str:
    """The watched gain with its interval, or a dash where nothing was watched."""
    if row.gain is None:
        return "–"
    value, low, high = row.gain
    bounds = f"{low:+.4f} … {high:+.4f}" if abs(low) < UNBOUNDED and abs(high) < UNBOUNDED else "too few days"
    return f"{value:+.4f} ({bounds})"


def marks_table(marks: Sequence[Mark]) -> str:
    """What the detectors and the quality checks said, and when."""
    if not marks:
        return '<p class="soft">None.</p>'
    rows = "".join(f'<tr><td class="day">{span(m)}</td><td>{m.kind}</td><td>{escape(m.text)}</td></tr>' for m in marks)
    return f'<div class="scroll"><table><tr><th>when</th><th>what</th><th>evidence</th></tr>{rows}</table></div>'


def span(mark: Mark) -> str:
    """The day of a mark, or its first and last day."""
    return day(mark.at_ms) + (f" to {day(mark.to_ms)}" if mark.to_ms else "")
