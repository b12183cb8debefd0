"""The suspect stretches of a loop's stream, as its quality events tell them."""

from trimtab.contracts.control import QualityRestored, QualityViolated
from trimtab.monitor.core.holding import STANDS
from trimtab.monitor.core.joining import Spans


class HeldStretches:
    """Folded from both quality topics. Mutable: a view or a backtest tells it of events as they come."""

    def __init__(self) -> None:
        self._begun: dict[tuple[str, str, int], None] = {}
        self._ended: dict[tuple[str, str, int], int] = {}
        self._spans: Spans = ()

    def spans(self) -> Spans:
        """Since ≤ at < until; 2^62 while a hold stands. Touching stretches are one."""
        return self._spans

    def begin(self, event: QualityViolated) -> None:
        """A rule was broken."""
        self._begun[event.rule, event.subject, event.since_ms] = None
        self._fold()

    def end(self, event: QualityRestored) -> None:
        """It is kept again. The two topics may be read in either order."""
        self._ended[event.rule, event.subject, event.since_ms] = event.at_ms
        self._fold()

    def _fold(self) -> None:
        joined = list[tuple[int, int]]()
        for key in sorted(self._begun, key=lambda key: key[2]):
            since, until = key[2], self._ended.get(key, STANDS)
            if joined and since <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(until, joined[-1][1]))
            else:
                joined.append((since, until))
        self._spans = tuple(joined)
