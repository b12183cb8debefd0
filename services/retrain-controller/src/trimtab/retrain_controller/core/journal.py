"""What was asked, requested and declined, read from the log and kept in memory: a few records a month for each loop."""

from dataclasses import dataclass

from trimtab.contracts import control
from trimtab.contracts.control import LoopDeclared, RetrainAsked, RetrainDeclined, RetrainRequested

Answer = RetrainRequested | RetrainDeclined
Cursor = tuple[int, str]
"""Place of a decision among those of its loop: event time, and a text that tells those of one instant apart."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision at its place."""

    cursor: Cursor
    answer: Answer


class Journal:
    """Every decision of every loop, and every person's wish. Mutable: the service's views fill it."""

    def __init__(self) -> None:
        self._loops: set[str] = set()
        self._decisions: dict[str, dict[Cursor, Answer]] = {}
        self._asks: dict[tuple[str, str], RetrainAsked] = {}

    def has_loop(self, loop: str) -> bool:
        """Whether the loop is declared."""
        return loop in self._loops

    def decisions(self, loop: str, limit: int, before: Cursor | None) -> tuple[list[Decision], Cursor | None]:
        """A page, newest first, and what to pass as `before` to get the next one (None: that was the last)."""
        known = self._decisions.get(loop, {})
        older = sorted((cursor for cursor in known if before is None or cursor < before), reverse=True)
        page = [Decision(cursor, known[cursor]) for cursor in older[:limit]]
        return page, page[-1].cursor if len(older) > limit else None

    def ask(self, loop: str, ask_id: str) -> tuple[RetrainAsked | None, Answer | None]:
        """A person's wish, as far as it has been read, and what became of it."""
        answers = [answer for answer in self._decisions.get(loop, {}).values() if answer.cause.ask_id == ask_id]
        return self._asks.get((loop, ask_id)), answers[0] if answers else None

    def note(self, event: control.Event) -> None:
        """Take in an event. A copy changes nothing."""
        match event:
            case LoopDeclared():
                self._loops.add(event.loop)
            case RetrainAsked():
                self._asks.setdefault((event.loop, event.ask_id), event)
            case RetrainRequested() | RetrainDeclined():
                self._decisions.setdefault(event.loop, {})[cursor_of(event)] = event

    def end(self, loop: str) -> None:
        """The loop has ended. What was decided about it stays."""
        self._loops.discard(loop)


def cursor_of(answer: Answer) -> Cursor:
    """Follows from the event, so that every replica has the same pages."""
    if isinstance(answer, RetrainRequested):
        return answer.at_ms, f"requested-{answer.request_id}"
    cause = answer.cause
    return answer.at_ms, f"declined-{cause.kind}-{cause.drift_id or cause.ask_id or ''}-{answer.reason}"
