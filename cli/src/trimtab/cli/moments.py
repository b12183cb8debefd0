"""Times on the command line."""

import re

from trimtab.contracts import times

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def moment(text: str) -> int:
    """Ms since the epoch: of an RFC 3339 time with a zone, or of the first moment of a date (UTC). Raises BadTimeError.

    >>> moment("2013-01-02") - moment("2013-01-01T00:00:00Z")
    86400000
    """
    return times.parse(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
