"""Line charts on a time axis as SVG, drawn for a given width so that text keeps its size on a phone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from trimtab.cli.report.data import Contender, Mark

KINDS = (
    ("drift", "drift"),
    ("hold", "hold"),
    ("retrain", "retrain"),
    ("promoted", "promoted"),
    ("failed", "not passed"),
)
LEFT, RIGHT, TOP, TRACK = 74, 10, 12, 19
COLOURS = 8
MONTH = 28
"""Room for the name of a month."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where values land in the picture: x in ms, y in units of the metric; widths in px."""

    width: int
    height: int
    from_ms: int
    to_ms: int
    low: float
    high: float

    def x(self, ms: int) -> float:
        """Pixel column of a time."""
        return LEFT + (self.width - LEFT - RIGHT) * (ms - self.from_ms) / max(self.to_ms - self.from_ms, 1)

    def y(self, value: float) -> float:
        """Pixel row of a value."""
        return TOP + (self.height - TOP) * (self.high - value) / (self.high - self.low or 1.0)


@dataclass(frozen=True, slots=True)
class Track:
    """One row of marks below the curves, all of a kind. `whose`: the contender, by position, whose colour they have;
    None: they have their kind's.
    """

    kind: str
    title: str
    marks: Sequence[Mark]
    whose: int | None = None


def tracks(marks: Sequence[Mark], whose: int | None = None) -> Iterator[Track]:
    """One track for each kind of happening that there was."""
    for kind, title in KINDS:
        if some := [mark for mark in marks if mark.kind == kind]:
            yield Track(kind, title, some, whose)


def timeline(
    contenders: Sequence[Contender], metric: str, rows: Sequence[Track], span: tuple[int, int], width: int
) -> str:
    """Weekly values of each contender above the tracks."""
    values = [v for c in contenders for _, v in c.weekly.get(metric, ())] or [0.0, 1.0]
    pad = (max(values) - min(values)) * 0.06 or 0.01
    frame = Frame(width, 250, *span, min(values) - pad, max(values) + pad)
    bottom = frame.height + 10 + TRACK * len(rows)
    parts = [
        f'<svg viewBox="0 0 {width} {bottom + 22}" width="{width}" role="img" aria-label="{escape(metric)} over time">'
    ]
    parts += grid(frame, bottom)
    for index, contender in enumerate(contenders):
        parts.append(line(frame, contender, metric, index % COLOURS))
    for number, row in enumerate(rows):
        parts += track(frame, row, frame.height + 18 + TRACK * number)
    return "".join([*parts, "</svg>"])


def grid(frame: Frame, bottom: int) -> Iterator[str]:
    """Horizontal lines with values, and the names of the months."""
    for i in range(5):
        value = frame.low + (frame.high - frame.low) * i / 4
        y = frame.y(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{frame.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3f}</text>'
    months = list(month_starts(frame.from_ms, frame.to_ms))
    every = 1 if frame.width > 600 else 3
    for i, (ms, name) in enumerate(months):
        x = frame.x(ms)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
        if i % every == 0 and x + MONTH <= frame.width:
            yield f'<text class="tick" x="{x + 3:.1f}" y="{bottom + 15}">{name}</text>'


def month_starts(from_ms: int, to_ms: int) -> Iterator[tuple[int, str]]:
    """The first instant and the short name of each month inside the span."""
    at = datetime.fromtimestamp(from_ms / 1000, UTC)
    year, month = at.year, at.month
    while True:
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
        start = datetime(year, month, 1, tzinfo=UTC)
        ms = int(start.timestamp() * 1000)
        if ms >= to_ms:
            return
        yield ms, start.strftime("%b")


def line(frame: Frame, contender: Contender, metric: str, index: int) -> str:
    """One contender's weekly values as a line with a native tooltip; a single week as a dash of a line's width."""
    places = [(frame.x(ms), frame.y(v)) for ms, v in contender.weekly.get(metric, ())]
    if len(places) == 1:
        places.append((places[0][0] + 6, places[0][1]))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline class="line c{index}" points="{points}"><title>{escape(contender.title)}</title></polyline>'


def track(frame: Frame, row: Track, y: int) -> Iterator[str]:
    """One row of marks: dots for instants, bars for what lasted; a dash of its contender's colour before its title."""
    yield f'<text class="tick" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{escape(row.title)}</text>'
    kind = row.kind
    if row.whose is not None:
        kind = f"own c{row.whose % COLOURS}"
        yield f'<line class="dash c{row.whose % COLOURS}" x1="0" x2="8" y1="{y}" y2="{y}"/>'
    for mark in row.marks:
        tip = f"<title>{day(mark.at_ms)} {escape(mark.text)}</title>"
        x = frame.x(mark.at_ms)
        if mark.to_ms is None:
            yield f'<circle class="mark {kind}" cx="{x:.1f}" cy="{y}" r="5">{tip}</circle>'
        else:
            wide = max(frame.x(mark.to_ms) - x, 3)
            yield f'<rect class="mark {kind}" x="{x:.1f}" y="{y - 4}" width="{wide:.1f}" height="8" rx="2">{tip}</rect>'


def day(ms: int) -> str:
    """The UTC date of a time."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")
