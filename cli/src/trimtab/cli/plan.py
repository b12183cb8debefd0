"""`trimtab plan`: what an apply would change of the running declaration."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trimtab.cli.check import checked
from trimtab.cli.cluster.address import find
from trimtab.cli.loops.declared import NEVER, read_declared
from trimtab.cli.settings import ClusterSettings
from trimtab.loops import declaration
from trimtab.loops.changes import Change, compare
from trimtab.loops.model import Loop

SIGNS = {"add": ("+", "green"), "remove": ("-", "red"), "change": ("~", "yellow"), "refuse": ("!", "bold red")}


def plan(
    folder: Annotated[Path, typer.Argument(help="The folder that holds loop.toml and the Avro schemas beside it.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON for scripts.")] = False,
) -> None:
    """Show what `trimtab apply` would change: topics, features, groups that start empty, the recipe and its gate."""
    loop = checked(folder)
    history = asyncio.run(read_declared(find(ClusterSettings()).kafka)).get(loop.name, NEVER)
    running = None if history.current is None else declaration.of(history.current)
    changes = compare(running, loop)
    if as_json:
        print(json.dumps([asdict(change) for change in changes], indent=2, ensure_ascii=False))
    else:
        _tell(Console(), loop, running, changes)
    if any(change.verb == "refuse" for change in changes):
        raise typer.Exit(1)


def _tell(console: Console, loop: Loop, running: Loop | None, changes: Sequence[Change]) -> None:
    if running is None:
        console.print(Text(f"{loop.name} is not declared: apply makes it version 1"))
    elif not changes:
        same = running.digest == loop.digest
        console.print(
            Text(f"{loop.name} is declared exactly so" if same else f"{loop.name}: nothing that matters changes")
        )
    else:
        console.print(Text(f"{loop.name}: version {running.version} is running"))
    table = Table(box=None, pad_edge=False, show_header=False)
    for change in changes:
        sign, style = SIGNS[change.verb]
        table.add_row(Text(sign, style=style), Text(change.what), Text(change.meaning, style="dim"))
    if changes:
        console.print(table)
