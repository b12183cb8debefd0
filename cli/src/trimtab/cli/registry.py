"""`trimtab registry`: versions, their lineage, promotion and rollback, and the database made again from the log."""

import asyncio
import getpass
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from trimtab.cli.cluster.address import find
from trimtab.cli.log import follower
from trimtab.cli.rest import rest
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts import topics
from trimtab.registry.adapters.database import TOPICS, Projected, Rebuilt, migrate
from trimtab.runtime.bus import Part
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.records import Read
from trimtab.store.signing import Verifier
from trimtab.store.sql import create_sql_engine

SERVICE = "registry"

app = typer.Typer(
    name="registry",
    help="Versions, their lineage, promotion and rollback.",
    no_args_is_help=True,
    add_completion=False,
)

LoopName = Annotated[str, typer.Argument(help="The loop's name.")]
Number = Annotated[int, typer.Argument(help="The version's number.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON for scripts.")]
Note = Annotated[str | None, typer.Option("--note", "-n", help="Why; kept with the deployment.")]


@app.command()
def versions(loop: LoopName, as_json: AsJson = False) -> None:
    """List a loop's versions, the newest first."""
    with _registry() as registry:
        found = list(registry.items(f"/v1/loops/{loop}/versions"))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("version", "role", "gate", "cause", "rows", "metrics", "from", "digest"):
        table.add_column(column)
    for one in found:
        table.add_row(*_cells(one))
    Console().print(table) if found else print(f"{loop} has no version yet")


@app.command()
def show(loop: LoopName, version: Number, as_json: AsJson = False) -> None:
    """Show a version with its whole lineage."""
    with _registry() as registry:
        found = registry.get(f"/v1/loops/{loop}/versions/{version}")
    if as_json:
        print(json.dumps(found, indent=2))
        return
    console = Console(highlight=False)
    for name, value in found.items():
        _print(console, name, value)


@app.command()
def promote(loop: LoopName, version: Number, note: Note = None) -> None:
    """Make a version the champion, whatever its gate said. Its predecessor scores along for the watch."""
    _command(loop, {"kind": "promote", "version": version, "note": note})


@app.command()
def rollback(
    loop: LoopName,
    version: Annotated[int | None, typer.Option("--version", help="To which; left out: the champion before.")] = None,
    note: Note = None,
) -> None:
    """Bring an earlier champion back."""
    _command(loop, {"kind": "rollback", "version": version, "note": note})


@app.command(name="retire-shadow")
def retire_shadow(loop: LoopName, version: Number, note: Note = None) -> None:
    """Let a shadow score along no more."""
    _command(loop, {"kind": "retire_shadow", "version": version, "note": note})


@app.command()
def rebuild(
    database_url: Annotated[
        str | None, typer.Option(envvar="TRIMTAB_REGISTRY__DATABASE_URL", help="Left out: the local cluster's.")
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(help="Folder with trainer.public.pem and registry.public.pem. Left out: the local one."),
    ] = None,
) -> None:
    """Make the registry's database again from the log, and say what was different. The registry may run meanwhile."""
    settings = ClusterSettings()
    folder = settings.data_dir.absolute()
    url = database_url or f"sqlite:///{folder / 'registry.db'}"
    trusted = _trusted(keys or folder / "keys")
    started_s = time.monotonic()
    told = asyncio.run(_rebuild(find(settings).kafka, url, trusted))
    table = Table(box=None, pad_edge=False)
    for column in ("table", "rows", "before"):
        table.add_column(column)
    for one in told:
        table.add_row(one.table, str(one.rows), "the same" if one.same else "different")
    Console().print(table)
    print(f"{url} was made again from the log in {time.monotonic() - started_s:.1f} s")


def _registry() -> Any:
    return rest(SERVICE, find(ClusterSettings()).services[SERVICE][0])


def _command(loop: str, body: Mapping[str, Any]) -> None:
    command = {**body, "by": getpass.getuser(), "command_id": uuid.uuid4().hex}
    with _registry() as registry:
        answer = registry.post(f"/v1/loops/{loop}/commands", command)
    if answer["outcome"] is None:
        print(f"recorded as {answer['command_id']}; not decided yet (see `trimtab status`)")
        return
    print(f"done: {answer['detail']}")


async def _rebuild(kafka: Connection, url: str, trusted: Mapping[str, Verifier]) -> Sequence[Rebuilt]:
    async with follower(kafka, TOPICS) as log:
        read = await log.catch_up()
    records: dict[Part, list[Read]] = {}
    for record in read:
        records.setdefault(Part(record.topic, record.partition), []).append(record)
    positions = {part: found[-1].offset + 1 for part, found in records.items()}
    engine = create_sql_engine(url)
    try:
        migrate(engine)
        return Projected(engine, trusted).rebuild(records, positions)
    finally:
        engine.dispose()


def _trusted(keys: Path) -> Mapping[str, Verifier]:
    return {
        topics.MODEL_TRAINED: Verifier.load(keys / "trainer.public.pem"),
        topics.DEPLOYMENT_CHANGED: Verifier.load(keys / "registry.public.pem"),
    }


def _cells(one: Mapping[str, Any]) -> list[str]:
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in one["metrics"].items())
    rows = "" if one["rows"] is None else f"{one['rows']:,}"
    role = "" if one["role"] == "none" else one["role"]
    when = one["at"][:16].replace("T", " ")
    return [str(one["version"]), role, one["verdict"], one["cause"] or "", rows, metrics, when, one["digest"][:12]]


def _print(console: Console, name: str, value: Any, depth: int = 0) -> None:
    """A value under its name; what is inside it is indented."""
    space = "  " * depth
    if isinstance(value, dict) and value:
        console.print(f"{space}{name}", soft_wrap=True)
        for inner, one in value.items():
            _print(console, inner, one, depth + 1)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        console.print(f"{space}{name}", soft_wrap=True)
        for one in value:
            console.print(
                f"{space}  - " + ", ".join(f"{key} {item}" for key, item in one.items() if item is not None),
                soft_wrap=True,
            )
    else:
        console.print(f"{space}{name}  {'none' if value in (None, [], {}) else value}", soft_wrap=True)
