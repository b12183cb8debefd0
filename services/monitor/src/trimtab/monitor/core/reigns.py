"""Which model reigned when, read from the predictions themselves.

The deployment a prediction names is in the same stream as its scores, so no verdict depends on which of two topics was
read first.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from trimtab.monitor.core.predictions import Deployment


@dataclass(frozen=True, slots=True)
class Reign:
    """A stretch of deployments with one champion: the first one's sequence, and the time of its first prediction."""

    sequence: int
    version: int
    digest: str
    start_ms: int


def reign_at(deployments: Iterable[Deployment], at_ms: int) -> Reign | None:
    """Who reigned just before `at_ms`: the newest deployment that had predicted by then; None before the first model.

    Deployments that change only the shadows prolong a reign; a champion that comes back begins another one.

    >>> seen = [Deployment(1, 1, "a", 100), Deployment(2, 1, "a", 200), Deployment(3, 2, "b", 300)]
    >>> reign_at(seen, 250).start_ms, reign_at(seen, 301).version, reign_at(seen, 100)
    (100, 2, None)
    """
    newest_first = sorted((d for d in deployments if d.first_ms < at_ms), key=lambda d: -d.sequence)
    if not newest_first:
        return None
    champion = newest_first[0]
    reign = Reign(champion.sequence, champion.version, champion.digest, champion.first_ms)
    for earlier in newest_first[1:]:
        if earlier.digest != champion.digest:
            break
        reign = Reign(earlier.sequence, earlier.version, earlier.digest, min(earlier.first_ms, reign.start_ms))
    return reign
