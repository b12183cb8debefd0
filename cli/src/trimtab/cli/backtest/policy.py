"""Policies that a backtest compares, as they are written on the command line."""

import re
from dataclasses import dataclass
from typing import Literal

UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


class PolicyError(Exception):
    """A policy or a history that nobody understands; says which there are."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(
            f"{text!r} is no policy: write never, loop, every=7d (s, m, h, d, w), and histories as all or 60d"
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """`never`: the first model is kept. `every`: refit on schedule and deploy, no questions asked, as a plain cron job
    does. `loop`: what the declaration says, by the services' own decisions. `history_ms` None: all rows.
    """

    kind: Literal["never", "every", "loop"]
    every_ms: int | None = None
    history_ms: int | None = None

    @property
    def name(self) -> str:
        """How tables call it, e.g. "every 30d, 60d of history"."""
        kind = f"every {duration_text(self.every_ms)}" if self.every_ms else self.kind
        return kind if self.history_ms is None else f"{kind}, {duration_text(self.history_ms)} of history"


def parse(text: str, history: str = "all") -> Policy:
    """A policy from its text on the command line.

    >>> parse("every=30d").every_ms
    2592000000
    >>> parse("loop", "60d").name
    'loop, 60d of history'
    """
    history_ms = None if history == "all" else duration_ms(history)
    if text in ("never", "loop"):
        return Policy("never" if text == "never" else "loop", None, history_ms)
    if text.startswith("every="):
        return Policy("every", duration_ms(text.removeprefix("every=")), history_ms)
    raise PolicyError(text)


def duration_ms(text: str) -> int:
    """ "7d" in ms; raises PolicyError."""
    match = re.fullmatch(r"(\d+)([smhdw])", text)
    if not match or int(match[1]) == 0:
        raise PolicyError(text)
    return int(match[1]) * UNITS_MS[match[2]]


def duration_text(ms: int | None) -> str:
    """The shortest way to write a duration: 604800000 is "7d"."""
    for unit in ("d", "h", "m"):
        if ms and ms % UNITS_MS[unit] == 0:
            return f"{ms // UNITS_MS[unit]}{unit}"
    return f"{(ms or 0) // 1000}s"
