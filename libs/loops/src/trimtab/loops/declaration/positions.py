"""Where each key of a TOML text stands, so that an error can name its line.

The text is read a second time after `tomllib` has accepted it, so only valid TOML is met here.
"""

import re
from collections.abc import Mapping

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def locate(text: str) -> Mapping[Path, int]:
    """The line (from 1) of every table, key and array element of a valid TOML text.

    >>> locate('[loop]\\nname = "a"\\n\\n[events]\\nx = { id = "i" }')[("events", "x", "id")]
    5
    """
    return _Scanner(text).run()


class _Scanner:
    """A cursor over the text; mutable, lives for one call of `locate`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}

    def run(self) -> Mapping[Path, int]:
        table: Path = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _header(self) -> Path:
        brackets = 2 if self._text.startswith("[[", self._at) else 1
        start = self._at
        self._at += brackets
        path = self._key()
        self._at += brackets
        if brackets == 2:
            number = self._tables.get(path, 0)
            self._tables[path] = number + 1
            self._note(path, start)
            path = (*path, number)
        self._note(path, start)
        return path

    def _pair(self, table: Path) -> None:
        start = self._at
        path = table + self._key()
        for length in range(len(table) + 1, len(path) + 1):
            self._note(path[:length], start)
        self._at = self._text.index("=", self._at) + 1
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> Path:
        parts: list[str | int] = []
        while True:
            self._skip(_SPACE)
            parts.append(self._key_part())
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return tuple(parts)
            self._at += 1

    def _key_part(self) -> str:
        quoted = self._text[self._at] in "\"'"
        found = (_STRING if quoted else _BARE_KEY).match(self._text, self._at)
        assert found is not None, "tomllib accepted the text"  # noqa: S101 - says why the type narrows
        self._at = found.end()
        if not quoted:
            return found.group()
        return _ESCAPE.sub(r"\1", found.group()[1:-1])

    def _value(self, path: Path) -> None:
        opening = self._text[self._at]
        if opening == "{":
            self._items(path, "}")
        elif opening == "[":
            self._items(path, "]")
        elif opening in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _items(self, path: Path, closing: str) -> None:
        self._at += 1
        number = 0
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == closing:
                self._at += 1
                return
            if self._text[self._at] == ",":
                self._at += 1
                continue
            if closing == "}":
                self._pair(path)
            else:
                self._note((*path, number), self._at)
                self._value((*path, number))
                number += 1

    def _note(self, path: Path, offset: int) -> None:
        self._lines.setdefault(path, self._text.count("\n", 0, offset) + 1)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._at
