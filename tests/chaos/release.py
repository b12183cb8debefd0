"""Another release of Trimtab: this source tree with every schema and the rows of every table a field richer.

What a release may change within a major version, all at once: each control event and each Avro record has an optional
field more, which the release writes, and so have the positions of tasks and the structs that tables hold.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("schemas", "libs", "services", "cli", "docs", "ARCHITECTURE.md")
FIELD = "added_later"
SAID = "later"
LIBS, SERVICES = "libs/{0}/src/trimtab/{0}", "services/{0}/src/trimtab/{1}"
RUNTIME, LOOPS = LIBS.format("runtime"), LIBS.format("loops")
MONITOR, PREDICTOR = SERVICES.format("monitor", "monitor"), SERVICES.format("predictor", "predictor")
STRUCTS = {
    f"{RUNTIME}/position.py": ("Position",),
    f"{RUNTIME}/parking.py": ("Parked",),
    f"{LOOPS}/label_state.py": ("PendingAsk", "KeptEvent"),
    f"{MONITOR}/core/ledger.py": ("Tip", "Held", "Closed", "Clock", "Look"),
    f"{MONITOR}/core/joining.py": ("JoinClock",),
    f"{MONITOR}/stages/route.py": ("Waiting",),
    f"{SERVICES.format('trainer', 'trainer')}/stages.py": ("Wanted", "Made", "Desk"),
    f"{SERVICES.format('registry', 'registry')}/core/state.py": ("State",),
    f"{SERVICES.format('retrain-controller', 'retrain_controller')}/core/state.py": ("State",),
}
"""What tables and changelogs hold."""
BY_HAND = {
    f"{LOOPS}/tile_records.py": (
        ("            _sized(tile.set_members),\n", f'            b"\\x02",\n            _sized(b"{SAID}"),\n'),
        ("    value = _TILE.decode(data)\n", f'    value.pop("{FIELD}")\n'),
    ),
    f"{PREDICTOR}/core/encoding.py": (
        (
            "            [_array(texts([value_text(ask[name]) for name in self._by])) for ask in asks],\n",
            f'            repeat(_VALUE + _text("{SAID}")),\n',
        ),
    ),
}
"""Encodings that are written out: after that line, this one."""


def later(folder: Path) -> Path:
    """Make the release's source tree in a folder that is not there yet."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        else:
            shutil.copy(source, folder / part)
    for file in (folder / "schemas/control").glob("*.schema.json"):
        if file.name != "common.schema.json":
            _rewrite(file, _control)
    for file in (folder / "schemas/data").glob("*.avsc"):
        _rewrite(file, _record)
    for path, names in STRUCTS.items():
        for name in names:
            _grow(folder / path, name)
    for path, places in BY_HAND.items():
        for line, more in places:
            _insert(folder / path, line, more)
    generate = [sys.executable, "-m", "trimtab.contracts.generate"]
    subprocess.run(generate, cwd=folder, env={**os.environ, **environment(folder)}, check=True, capture_output=True)
    return folder


def environment(folder: Path) -> Mapping[str, str]:
    """With it, a process runs the release in that folder instead of the one that is installed."""
    sources = sorted(str(place) for place in (*folder.glob("*/*/src"), *folder.glob("cli/src")))
    return {"PYTHONPATH": os.pathsep.join(sources)}


def _rewrite(file: Path, change: Any) -> None:
    schema = json.loads(file.read_text())
    change(schema)
    file.write_text(json.dumps(schema, indent=2) + "\n")


def _control(schema: dict[str, Any]) -> None:
    schema["properties"][FIELD] = {"type": ["string", "null"], "default": None, "description": "new"}


def _record(schema: dict[str, Any]) -> None:
    schema["fields"].append({"name": FIELD, "type": ["null", "string"], "default": None, "doc": "new"})


def _grow(file: Path, name: str) -> None:
    """Give a class a field more, at its end."""
    text = file.read_text()
    [found] = [one for one in ast.parse(text).body if isinstance(one, ast.ClassDef) and one.name == name]
    last = max(one.end_lineno or 0 for one in found.body if isinstance(one, ast.AnnAssign))
    lines = text.splitlines(keepends=True)
    lines.insert(last, f'    {FIELD}: str = "{SAID}"\n')
    file.write_text("".join(lines))


def _insert(file: Path, line: str, more: str) -> None:
    text = file.read_text()
    assert text.count(line) == 1, f"{file} has changed: say anew how it is to be grown"
    file.write_text(text.replace(line, line + more))
