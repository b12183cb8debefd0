"""Strategies of what people and their clients send by mistake, or on purpose."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy

LARGE = 1_100_000
"""Bytes of a value that is too large for an event; HUGE: for any record."""
HUGE = 10_000_000

INTEGERS = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**70), 2**70),
    st.sampled_from([2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30, 10**400]),
)
FLOATS = st.one_of(
    st.floats(), st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e308, 5e-324, -0.0, 2.0**63])
)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "\0", "\x1f", "\x1a", "x" * 1_024, "x" * 1_025, "\ud800", "🛩", "null", "../..", "a/b", "a.b"]),
)
TIMES = st.sampled_from(
    [
        "2024-06-01T00:00:00Z",
        "1500-01-01T00:00:00.000Z",
        "1000-01-01T00:00:00.000Z",
        "1677-09-21T00:00:00.000Z",
        "2262-04-12T00:00:00.000Z",
        "8999-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59.999-23:59",
        "0001-01-01T00:00:00+23:59",
        "0000-00-00T00:00:00Z",
        "1970-01-01T00:00:00.000Z",
        "10000-01-01T00:00:00Z",
        "2024-06-01",
        "2024-06-01T24:00:00Z",
        "2024-02-30T00:00:00Z",
    ]
)
SCALARS = st.one_of(st.none(), st.booleans(), INTEGERS, FLOATS, TEXTS, TIMES)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
"""What `json.dumps` makes text of: NaN, infinities and half surrogates, which JSON does not have, are among it."""

DEEP = st.builds(
    lambda depth, pair, closed: pair[0] * depth + (pair[1] * depth if closed else b""),
    st.sampled_from([1, 100, 2_000, 100_000]),
    st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"":', b"}]")]),
    st.booleans(),
)
KEYS = st.one_of(st.none(), st.binary(max_size=8), st.sampled_from([b"offers", b"\xff\xfe", b"", b"\0", b"k" * 5_000]))
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["traceparent", "ce_id", "ce_time", "tt_key", "tt_digest", "tt_mark", "tt_task", "", "é"]),
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([b"idle", b"1e9", b"--1", b"9" * 30, b"\xff\xfe", b"00-" + b"f" * 32 + b"-" + b"f" * 16]),
        ),
    ),
    max_size=3,
).map(tuple)


def dumped(value: Any) -> bytes:
    """JSON, or nearly so."""
    return json.dumps(value).encode()


def mutated(document: Mapping[str, Any]) -> Strategy[dict[str, Any]]:
    """A document with one to three places changed, dropped or added, some of them inside it."""
    changes = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 5), JSON), min_size=1, max_size=3)
    return changes.map(lambda found: _changed(document, found))


def _changed(document: Mapping[str, Any], changes: list[tuple[int, int, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(document))
    for place, kind, value in changes:
        holder: Any = made
        while True:
            inner = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not inner:
                break
            name = inner[place % len(inner)]
            place //= len(inner)
            if isinstance(holder[name], dict | list) and holder[name] and place % 4:
                holder = holder[name]
                continue
            if kind == 0 and isinstance(holder, dict):
                del holder[name]
            elif kind == 1 and isinstance(holder, dict):
                holder[f"{name}x"] = value
            else:
                holder[name] = value
            break
    return made


def damaged(value: Strategy[bytes]) -> Strategy[bytes]:
    """The bytes with something done to them on the way."""
    return st.builds(_damage, value, st.integers(0, 7), st.integers(0, 2**16), st.binary(min_size=1, max_size=3))


def _damage(value: bytes, kind: int, place: int, junk: bytes) -> bytes:
    at = place % (len(value) + 1)
    match kind:
        case 0:
            return value[:at]
        case 1:
            return value[:at] + junk + value[at:]
        case 2:
            return value[:at] + junk + value[at + len(junk) :]
        case 3:
            return value[at:]
        case 4:
            return value + value
        case 5:
            return b"\xef\xbb\xbf" + value
        case 6:
            return value.decode("utf-8", "replace").encode("utf-16")
        case _:
            return junk + value


def rarely(often: Strategy[Any], seldom: Strategy[Any], share: int) -> Strategy[Any]:
    """One in `share` of the seldom ones, which cost much."""
    return st.integers(0, share - 1).flatmap(lambda drawn: seldom if drawn == share // 2 else often)


HUGE_VALUES = st.sampled_from([LARGE, HUGE]).map(lambda size: b'{"order_id": "' + b"x" * size + b'"}')
