"""Which known name a mistyped one most likely meant."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that is most like a word, whatever its case; None where none is near.

    >>> nearest("amonut", ["amount", "country"])
    'amount'
    """
    by_folded = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """What to write instead: the nearest known name, else all of them.

    >>> suggestion("amonut", ["amount"]), suggestion("x", ["amount", "country"])
    ('`amount`', 'one of amount, country')
    """
    names = list(known)
    near = nearest(word, names)
    return f"`{near}`" if near else f"one of {', '.join(names)}"
