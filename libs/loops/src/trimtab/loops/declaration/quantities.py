"""Durations, shares, rates and windows as a declaration writes them."""

import re
from collections.abc import Mapping

from trimtab.loops.errors import LoopsError
from trimtab.loops.model import Window

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
YEAR_MS = 365 * DAY_MS

_UNITS: Mapping[str, int] = {"ms": 1, "s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}
_UNITS_DOWN = (("d", DAY_MS), ("h", HOUR_MS), ("m", MINUTE_MS), ("s", SECOND_MS), ("ms", 1))
_WHOLE = r"\d{1,15}"
"""Python reads no number of thousands of digits, and nobody means one."""
_SHOWN = 40
"""Characters of a wrong text in its message."""
_DURATION = re.compile(rf"({_WHOLE})(ms|s|m|h|d|w|y)")
_SHARE = re.compile(r"(\+?)(\d+(?:\.\d+)?)%")
_RATE = re.compile(rf"({_WHOLE}) per (\S+)")


class QuantityError(LoopsError):
    """A text that is no quantity; `right` says how one is written."""

    def __init__(self, wrong: str, right: str) -> None:
        super().__init__(f"{wrong}; right: {right}")
        self.wrong = wrong
        self.right = right


def duration_ms(text: str) -> int:
    """Milliseconds of a duration: a whole number and one of ms, s, m (minutes), h, d, w, y (365 d).

    >>> duration_ms("10m"), duration_ms("7d")
    (600000, 604800000)
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise QuantityError(
            f"{text[:_SHOWN]!r} is not a duration", 'a whole number and a unit, such as "90s", "10m", "1h", "7d"'
        )
    return int(found[1]) * (YEAR_MS if found[2] == "y" else _UNITS[found[2]])


def duration_text(ms: int) -> str:
    """The shortest exact text of a duration.

    >>> duration_text(604_800_000), duration_text(90_000), duration_text(0)
    ('7d', '90s', '0s')
    """
    if ms == 0:
        return "0s"
    return next(f"{ms // size}{unit}" for unit, size in _UNITS_DOWN if ms % size == 0)


def share(text: str) -> float:
    """A share of 1, written as a percentage: "2%" is 0.02.

    >>> share("2%")
    0.02
    """
    return _share(text, plus=False)


def increase(text: str) -> float:
    """How much a share may rise above its reference: "+5%" is 0.05 above it.

    >>> increase("+5%")
    0.05
    """
    return _share(text, plus=True)


def _share(text: str, *, plus: bool) -> float:
    found = _SHARE.fullmatch(text.strip())
    value = float(found[2]) / 100 if found else 2.0
    if found is None or bool(found[1]) is not plus or value > 1:
        kind, example = ("an increase", '"+5%" (above its reference)') if plus else ("a share", '"2%"')
        raise QuantityError(f"{text[:_SHOWN]!r} is not {kind}", f"a percentage from 0 to 100, such as {example}")
    return round(value, 12)


def rate(text: str) -> tuple[int, int]:
    """(count, per ms) of a rate such as "100 per 1h".

    >>> rate("24 per 365d")
    (24, 31536000000)
    """
    found = _RATE.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise QuantityError(f"{text[:_SHOWN]!r} is not a rate", 'a count above 0 and a duration, such as "100 per 1h"')
    per_ms = duration_ms(found[2])
    if per_ms == 0:
        raise QuantityError(f"{text[:_SHOWN]!r} counts over no time", 'a duration above 0, such as "100 per 1h"')
    return int(found[1]), per_ms


def window(text: str) -> Window:
    """A window "W", or "W@O": the window W that ended O ago.

    >>> window("7d@7d")
    Window(name='7d@7d', width_ms=604800000, ago_ms=604800000)
    """
    width, at, ago = text.strip().partition("@")
    found = Window(text.strip(), duration_ms(width), duration_ms(ago) if at else 0)
    if found.width_ms == 0:
        raise QuantityError(f"{text[:_SHOWN]!r} is an empty window", 'a width above 0, such as "24h" or "7d@7d"')
    return found
