"""One text for one JSON value: the JSON Canonicalization Scheme of RFC 8785.

Writers and readers of any language sign and verify the same bytes, whether a number came as 1 or as 1.0.
"""

import json
import math
from collections.abc import Mapping

from trimtab.store.errors import NotCanonicalError


def canonical(value: object) -> bytes:
    """The canonical UTF-8 form of a JSON value.

    Integers are written exactly, also beyond 2^53, where RFC 8785 would round them. Raises NotCanonicalError for NaN,
    infinities and everything that is not JSON.

    >>> canonical({"b": 1.0, "a": [1e21, 1e-7, None, True]})
    b'{"a":[1e+21,1e-7,null,true],"b":1}'
    """
    try:
        return _text(value).encode()
    except UnicodeEncodeError as error:  # half a surrogate pair
        raise NotCanonicalError(value) from error


def _text(value: object) -> str:
    match value:
        case None | bool() | str():
            return json.dumps(value, ensure_ascii=False)
        case int():
            return str(int(value))
        case float():
            return _number(value)
        case Mapping():
            return "{" + ",".join(_member(name, value[name]) for name in sorted(value, key=_utf16)) + "}"
        case list() | tuple():
            return "[" + ",".join(_text(item) for item in value) + "]"
    raise NotCanonicalError(value)


def _member(name: object, value: object) -> str:
    return f"{json.dumps(name, ensure_ascii=False)}:{_text(value)}"


def _utf16(name: object) -> bytes:
    if not isinstance(name, str):
        raise NotCanonicalError(name)
    return name.encode("utf-16-be")


def _number(value: float) -> str:
    """ECMAScript's Number::toString (ECMA-262, 6.1.6.1.20): Python's repr has the same digits."""
    if not math.isfinite(value):
        raise NotCanonicalError(value)
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = whole + ("" if fraction == "0" else fraction)
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    if not digits:
        return "0"
    return sign + _placed(digits, point)


def _placed(digits: str, point: int) -> str:
    """Digits with the decimal point after the first `point` of them."""
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{tail}e{point - 1:+d}"
