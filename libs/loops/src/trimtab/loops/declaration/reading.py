"""Reading one table of a declaration key by key, noting every problem instead of stopping at the first."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from trimtab.loops.declaration.positions import Path
from trimtab.loops.declaration.quantities import QuantityError
from trimtab.loops.errors import ExpressionError, Problem
from trimtab.loops.names import nearest

T = TypeVar("T")

_KINDS: Mapping[type, str] = {
    str: 'a text in quotes, such as "flights"',
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table, such as { name = ... } or [name]",
    list: 'a list, such as ["a", "b"]',
}


def choices(known: Iterable[str]) -> str:
    """Names for an error message.

    >>> choices(["a", "b"])
    'one of a, b'
    """
    names = list(known)
    return f"one of {', '.join(names)}" if names else "nothing (none is declared)"


@dataclass(slots=True)
class Report:
    """The problems found so far, and where keys stand. Mutable: it lives for one parse."""

    file: str
    lines: Mapping[Path, int]
    problems: list[Problem] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    """Events that are declared but cannot be read: naming them elsewhere is no second mistake."""

    def line(self, path: Path) -> int:
        """The line of a key, or of the nearest table around it; 0 when there is none."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)

    def add(self, path: Path, wrong: str, right: str = "", excerpt: str = "") -> None:
        key = ".".join(str(part) for part in path)
        self.problems.append(Problem(self.file, self.line(path), key, wrong, right, excerpt))

    def add_expression(self, path: Path, sql: str, error: ExpressionError) -> None:
        """Notes an SQL error with a caret under its position."""
        self.add(path, error.message, error.suggestion, caret(sql, error.position))

    def unknown(self, path: Path, word: str, known: Sequence[str], kind: str) -> None:
        """Notes a name that is not among the known ones."""
        near = nearest(word, known)
        self.add(path, f"unknown {kind} `{word}`", f"`{near}`" if near else choices(known))

    def unknown_event(self, path: Path, word: str, known: Iterable[str]) -> None:
        """Notes an event that is not declared at all."""
        if word not in self.broken:
            self.unknown(path, word, sorted({*known, *self.broken}), "event")


def caret(text: str, position: int) -> str:
    """The line of a text that holds a position, with a caret under it.

    >>> print(caret("a + + b", 4))
    a + + b
        ^
    """
    start = text.rfind("\n", 0, position) + 1
    line = text[start:].split("\n", 1)[0]
    return f"{line}\n{' ' * min(position - start, len(line))}^"


class Section:
    """One table under its path. Reading methods note a problem and return the default where a value is wrong.

    `close` notes the keys that nobody asked for. `later`: keys of the format that this version does not support.
    """

    def __init__(self, report: Report, path: Path, data: Any, later: Sequence[str] = ()) -> None:
        self.report = report
        self.path = path
        self._later = later
        self._known: set[str] = set()
        if not isinstance(data, dict):
            report.add(path, f"must be a table, not {_shown(data)}", _KINDS[dict])
            data = {}
        self._data: Mapping[str, Any] = data

    def __contains__(self, key: str) -> bool:
        """Whether a key is declared. Asking makes it a known one, like reading it."""
        self._known.add(key)
        return key in self._data

    def keys(self) -> Sequence[str]:
        """All keys, for tables whose keys are names; makes them known."""
        self._known.update(self._data)
        return list(self._data)

    def at(self, key: str) -> Path:
        return (*self.path, key)

    def wrong(self, key: str, wrong: str, right: str = "") -> None:
        self.report.add(self.at(key), wrong, right)

    def value(self, key: str, kind: type[T], default: T) -> T:
        """A value of a kind; an int is a float too, a bool is neither."""
        if key not in self:
            return default
        found = self._data[key]
        if kind is float and isinstance(found, int) and not isinstance(found, bool):
            return kind(found)  # type: ignore[call-arg]
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            self.wrong(key, f"must be {_kind(kind)}, not {_shown(found)}", _KINDS[kind])
            return default
        return found

    def text(self, key: str, default: str) -> str:
        return self.value(key, str, default)

    def required(self, key: str, example: str) -> str:
        """A text that must be there; "" and a problem when it is not."""
        if key not in self:
            self.report.add(self.path, f"`{key}` is missing", f"{key} = {example}")
            return ""
        return self.value(key, str, "")

    def choice(self, key: str, known: Sequence[str], default: str) -> str:
        found = self.value(key, str, default)
        if found not in known:
            self.report.unknown(self.at(key), found, known, "value")
            return default
        return found

    def parsed(self, key: str, parse: Callable[[str], T], default: T) -> T:
        """A text read by one of `quantities`."""
        found = self.value(key, str, "")
        if key not in self._data or not isinstance(self._data[key], str):
            return default
        try:
            return parse(found)
        except QuantityError as error:
            self.wrong(key, error.wrong, error.right)
            return default

    def positive(self, key: str, parse: Callable[[str], int], default: int) -> int:
        """A duration above zero."""
        found = self.parsed(key, parse, default)
        if found <= 0 and key in self._data:
            self.wrong(key, "must be longer than 0", 'a duration such as "7d"')
            return default
        return found

    def texts(self, key: str, default: Sequence[str] = ()) -> Sequence[str]:
        """A list of texts; a single text counts as a list of one."""
        if key not in self:
            return tuple(default)
        found = self._data[key]
        if isinstance(found, str):
            return (found,)
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return tuple(found)
        self.wrong(key, f"must be a list of texts, not {_shown(found)}", _KINDS[list])
        return tuple(default)

    def table(self, key: str) -> Mapping[str, Any]:
        return self.value(key, dict, {})

    def section(self, key: str, later: Sequence[str] = ()) -> "Section":
        self._known.add(key)
        return Section(self.report, self.at(key), self._data.get(key, {}), later)

    def close(self) -> None:
        """Notes keys that are unknown, or known but not yet supported."""
        for key in self._data:
            if key in self._later:
                self.wrong(key, "this key is part of the format but not yet supported", f"leave `{key}` out for now")
            elif key not in self._known:
                self.report.unknown(self.at(key), key, sorted({*self._known, *self._later}), "key")


def _kind(kind: type) -> str:
    return {str: "a text", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}[kind]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
