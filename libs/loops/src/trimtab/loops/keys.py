"""The values of `by` as one text: how a group's or a label's rows are found, whatever types the two sides declare."""

from collections.abc import Mapping, Sequence

SEPARATOR = "\x1f"
_ESCAPE = "\x1a"


def value_text(value: object) -> str:
    """The canonical text of one value: equal numbers of different Avro types are equal.

    >>> value_text(3), value_text(3.0), value_text(True), value_text("AA")
    ('3', '3', 'true', 'AA')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def key_text(values: Sequence[object]) -> str | None:
    """The values as one text, parted by U+001F; None when one of them is null: NULL is equal to nothing.

    >>> key_text(["JFK", 7]), key_text(["JFK", None])
    ('JFK\\x1f7', None)
    """
    if any(value is None for value in values):
        return None
    return SEPARATOR.join([_plain(value_text(value)) for value in values])


def key_texts(rows: Sequence[Mapping[str, object]], by: Sequence[str]) -> list[str | None]:
    """`key_text` of each row's `by` fields."""
    return key_columns([[row.get(name) for row in rows] for name in by])


def key_columns(columns: Sequence[Sequence[object]]) -> list[str | None]:
    """`key_text` of the values of each row, given field by field, parted by U+001F.

    >>> key_columns([["JFK", "EWR"], [1, None]])
    ['JFK\\x1f1', None]
    """
    if len(columns) == 1:
        return [None if value is None else _plain(value_text(value)) for value in columns[0]]
    return [key_text(values) for values in zip(*columns, strict=True)]


def key_values(key: str) -> list[str]:
    """The texts of the values in a key."""
    return [part.replace(_ESCAPE * 2, _ESCAPE) for part in key.split(SEPARATOR)]


def _plain(text: str) -> str:
    """No value holds the separator: a control character nobody needs is replaced by the escape, itself doubled."""
    if SEPARATOR in text or _ESCAPE in text:
        return text.replace(_ESCAPE, _ESCAPE * 2).replace(SEPARATOR, f"{_ESCAPE}_")
    return text
