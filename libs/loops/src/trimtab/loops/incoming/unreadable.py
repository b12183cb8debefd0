"""Why bytes are no JSON, said so that whoever wrote them finds the place. The slow way, for what msgspec refuses."""

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

_AROUND = 20
"""Characters shown on either side of a mistake."""
_BEGINNINGS = {
    b"\xef\xbb\xbf": "it begins with a byte-order mark (EF BB BF); send UTF-8 without one",
    b"\xff\xfe": "it looks like UTF-16; send UTF-8",
    b"\xfe\xff": "it looks like UTF-16; send UTF-8",
    b"\x1f\x8b": "it looks compressed (gzip); send it plain, and let the producer compress batches (compression.type)",
    b"{'": "names and texts stand in double quotes in JSON; a Python dict becomes JSON by json.dumps",
}


class _NoNumber(NamedTuple):
    """NaN, Infinity or -Infinity as it was written."""

    text: str


def why(data: bytes) -> str:
    """What is wrong with bytes that cannot be read as JSON, where, and what would be right.

    >>> print(why(b'{"price": NaN}'))
    price: NaN is no number in JSON; send null, or leave the field out
    >>> print(why(b'{"price": 1'))
    it ends too early, after '{"price": 1'
    """
    for beginning, told in _BEGINNINGS.items():
        if data.startswith(beginning):
            return told
    if not data.strip():
        return "it is empty"
    try:
        found = json.loads(data.decode(), parse_constant=_NoNumber)
        return next(_unfit(found, ""), "it is no JSON")
    except UnicodeDecodeError as error:
        return f"byte {error.start} is not UTF-8, in {_around(data, error.start)}"
    except json.JSONDecodeError as error:
        return _misplaced(data, error)
    except RecursionError:
        return "it is nested too deeply; an event is flat, or nearly so"
    except ValueError:
        return "a number in it has too many digits"


def _misplaced(data: bytes, error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated"):
        return f"it ends too early, after {_around(data, len(data))}"
    at = len(error.doc[: error.pos].encode())
    return f"{error.msg.removesuffix(' at')} at byte {at}, in {_around(data, at)}"


def _unfit(value: Any, path: str) -> Iterator[str]:
    """What Python's decoder takes and JSON does not have, with its place."""
    name = path.removeprefix(".") or "it"
    if isinstance(value, _NoNumber):
        yield f"{name}: {value.text} is no number in JSON; send null, or leave the field out"
    elif isinstance(value, float) and math.isinf(value):
        yield f"{name}: the number is beyond what 64 bits hold"
    elif isinstance(value, str) and not _encodable(value):
        yield f"{name}: the text holds half of a surrogate pair (\\ud800 to \\udfff)"
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _unfit(key, path)
            yield from _unfit(one, f"{path}.{key}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _unfit(one, f"{path}[{index}]")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _around(data: bytes, at: int) -> str:
    """The neighbourhood of a byte, as text."""
    start, end = max(0, at - _AROUND), at + _AROUND
    text = (
        ("…" if start else "") + data[start:end].decode("utf-8", "backslashreplace") + ("…" if end < len(data) else "")
    )
    return "'" + "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text) + "'"
