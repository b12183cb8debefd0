"""`loop.toml` and `loop.declared`: a loop that every service can begin with, or all problems with their places."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tomli_w
from hypothesis import strategies as st
from trimtab.loops import declaration
from trimtab.loops.declaration.digests import declaration_digest
from trimtab.loops.errors import DeclarationError, DeclaredError
from trimtab.loops.model import Loop
from trimtab.runtime.host import Service
from trimtab.runtime.memory import MemoryBus
from trimtab.testing.declarations import declared

from tests.fuzz.entry import Check, Counted, Entry, LostError
from tests.fuzz.shop import SCHEMAS, TOML
from tests.fuzz.stream import services
from tests.fuzz.values import INTEGERS, damaged, mutated

TABLES: Mapping[str, Any] = tomllib.loads(TOML)
WORDS = st.sampled_from(
    [
        "0d", "-1d", "1d", "99999999999y", "9" * 4_400 + "d", "7d@7d", "1h@9999999y", "1 per 60d", "0 per 1s",
        "101%", "+5%", "count()", "count() > 0", "sum(amount)", "amount / 0", "amount = 'x'", "1 IN (SELECT 1)",
        "(" * 500 + "1" + ")" * 500, "NOT " * 300 + "gift", "1" + " + 1" * 400, "last(buyer) LIKE '%'",
        "regexp_like(buyer, '(a+)+$')", "CAST(buyer AS DOUBLE) > 1", "extract(year FROM ordered_at)", "x'", "\0",
        "order", "refund", "order_id", "country", "sklearn.linear_model.Ridge", "os.system", "../order.avsc",
    ]
)  # fmt: skip


def _texts(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _texts(one, (*path, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _texts(one, (*path, index))
    else:
        yield path


def _put(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    made: Any = json.loads(json.dumps(TABLES))
    holder = made
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    return dict(made)


REPLACED = st.builds(_put, st.sampled_from(list(_texts(TABLES))), st.one_of(WORDS, INTEGERS))


def _written(tables: Mapping[str, Any]) -> bytes:
    try:
        return tomli_w.dumps(tables).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError):  # what TOML has no word for, such as null
        return TOML.encode() + b"\nx = 1\n"


@contextmanager
def _files() -> Iterator[Check]:
    with TemporaryDirectory() as folder:
        place = Path(folder)
        wired = services(place, MemoryBus())
        for event, schema in SCHEMAS.items():
            (place / f"{event}.avsc").write_text(json.dumps(schema))

        def check(batch: Sequence[bytes]) -> Counted:
            loops = []
            for text in batch:
                (place / declaration.FILE).write_bytes(text)
                try:
                    loops.append(declaration.load(place))
                except DeclarationError as error:
                    _explained(error)
            for loop in loops:
                _begun(wired, loop)
            return Counted(len(loops), len(batch) - len(loops))

        yield check


def _explained(error: DeclarationError) -> None:
    if not str(error).strip():
        raise LostError("a declaration is refused without a word")


def _begun(wired: Sequence[Service], loop: Loop) -> None:
    """What `trimtab apply` takes, every service can begin with."""
    for service in wired:
        if service.work is not None:
            service.work(declared(loop, version=1))


def _digest(tables: Mapping[str, Any]) -> str:
    try:
        return declaration_digest(tables, SCHEMAS)
    except ValueError:  # NaN and the like, which no event carries
        return ""


@contextmanager
def _events() -> Iterator[Check]:
    def check(batch: Sequence[Mapping[str, Any]]) -> Counted:
        taken = 0
        for tables in batch:
            try:
                declaration.from_declared(tables, SCHEMAS, version=1, partitions=2, digest=_digest(tables))
            except DeclaredError:
                continue
            taken += 1
        return Counted(taken, len(batch) - taken)

    yield check


def entries() -> list[Entry]:
    """The file of a person, and the event that anybody can write."""
    tables = st.one_of(mutated(TABLES), REPLACED)
    files = st.one_of(tables.map(_written), damaged(st.just(TOML.encode())))
    return [Entry("loop.toml", files, 5, _files, weight=2), Entry("loop.declared", tables, 5, _events, weight=2)]
