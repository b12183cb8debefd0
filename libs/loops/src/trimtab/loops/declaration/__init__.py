"""The declaration of a loop: read from its folder, from texts, or from `loop.declared`."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trimtab.contracts.control import LoopDeclared
from trimtab.loops.declaration.positions import locate
from trimtab.loops.declaration.reader import read_loop
from trimtab.loops.declaration.reading import Report
from trimtab.loops.declaration.schemas import FindSchema, beside, given
from trimtab.loops.errors import DeclarationError, DeclaredError, Problem
from trimtab.loops.model import Loop

__all__ = ["FILE", "declared", "from_declared", "lines", "load", "of", "parse"]

FILE = "loop.toml"
_TOML_LINE = re.compile(r"\(at line (\d+)")


def load(folder: Path) -> Loop:
    """The loop declared by `loop.toml` and the Avro schemas beside it. Its version is 0 until it is applied.

    Raises DeclarationError with all problems.
    """
    path = folder / FILE
    if not path.is_file():
        right = f"a folder that holds a {FILE}; `trimtab init SAMPLE` drafts one"
        raise DeclarationError([Problem(str(path), 0, "", "there is no such file", right)])
    return _read(_text(path), beside(folder), str(path))


def parse(toml_text: str, schemas: Mapping[str, Mapping[str, Any]], file: str = FILE) -> Loop:
    """The loop declared by a text and its events' Avro schemas (event → schema). Raises DeclarationError."""
    return _read(toml_text, given(schemas), file)


def lines(file: Path) -> Mapping[tuple[str | int, ...], int]:
    """The line of every key of a declaration's file, for those who find a mistake that only they can know."""
    return locate(file.read_text("utf-8"))


def of(event: LoopDeclared) -> Loop:
    """The loop that an event carries. Raises DeclaredError when it is not what its digest says."""
    return from_declared(
        event.declaration,
        event.schemas,
        version=event.version,
        partitions=event.partitions,
        digest=event.digest,
    )


def from_declared(
    declaration: Mapping[str, Any],
    schemas: Mapping[str, Mapping[str, Any]],
    *,
    version: int,
    partitions: int,
    digest: str,
) -> Loop:
    """The same from an event's parts."""
    if (wrong := _not_text([declaration, schemas])) is not None:
        raise DeclaredError(f"the declaration holds {wrong[:80]!r}, which is no Unicode text")
    report = Report("loop.declared", {})
    loop = read_loop(declaration, given(schemas), report)
    if report.problems:
        raise DeclaredError(f"this version cannot read the declaration: {DeclarationError(report.problems)}")
    if loop.digest != digest:
        raise DeclaredError(f"the declaration of {loop.name!r} has digest {loop.digest}, the event says {digest}")
    return replace(loop, version=version, partitions=partitions)


def declared(loop: Loop) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]:
    """What `loop.declared` carries of a loop: (declaration, schemas by event)."""
    return loop.declaration, {name: event.schema for name, event in loop.events.items()}


def _not_text(value: object) -> str | None:
    """A text somewhere in JSON's values that no file and no record can hold: JSON knows halves of a character."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, Mapping):
            left += [*one, *one.values()]
        elif isinstance(one, Sequence) and not isinstance(one, str | bytes):
            left += one
        elif isinstance(one, str) and any("\ud800" <= sign <= "\udfff" for sign in one):
            return one
    return None


def _read(text: str, find: FindSchema, file: str) -> Loop:
    try:
        data = tomllib.loads(text)
    except ValueError as error:
        raise DeclarationError([_not_toml(error, text, file)]) from error
    report = Report(file, locate(text))
    loop = read_loop(data, find, report)
    if report.problems:
        raise DeclarationError(report.problems)
    return loop


def _text(path: Path) -> str:
    """Raises DeclarationError for what is no UTF-8."""
    data = path.read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = f"not TOML: byte {error.start} is not UTF-8"
        raise DeclarationError([Problem(str(path), line, "", wrong, "a text saved as UTF-8")]) from error


def _not_toml(error: ValueError, text: str, file: str) -> Problem:
    found = _TOML_LINE.search(str(error))
    line = int(found[1]) if found else len(text.splitlines())
    excerpt = text.splitlines()[line - 1] if 0 < line <= len(text.splitlines()) else ""
    return Problem(file, line, "", f"not TOML: {error}", "TOML as on https://toml.io", excerpt)
