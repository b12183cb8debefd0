"""Renew the versions pinned in pyproject.toml.

The lock file of uv names the addresses of a package registry, which belong to whoever runs it; so the repository keeps
the versions alone, as constraints, and each checkout resolves them into a lock file of its own.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
START, END = "# pins: begin (make pins)", "# pins: end"


def without_pins(text: str) -> str:
    """pyproject.toml with an empty list of pins, so that the newest versions are resolved."""
    return re.sub(f"{re.escape(START)}.*{re.escape(END)}", f"{START}\n    {END}", text, flags=re.DOTALL)


def resolved(uv: str) -> list[str]:
    """Every third-party version of a fresh resolution, with its markers."""
    subprocess.run([uv, "lock", "--upgrade"], cwd=ROOT, check=True)
    export = [uv, "export", "--quiet", "--all-packages", "--all-groups", "--all-extras", "--no-hashes"]
    export += ["--no-emit-workspace", "--no-annotate", "--no-header", "--format", "requirements-txt"]
    lines = subprocess.run(export, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line.strip() for line in lines if "==" in line]


def main(uv: str) -> None:
    """Resolve without pins, then write what came out."""
    path = ROOT / "pyproject.toml"
    text = without_pins(path.read_text())
    path.write_text(text)
    pins = "".join(f'    "{pin}",\n' for pin in resolved(uv))
    path.write_text(text.replace(END, f"{pins.lstrip()}    {END}"))


main(sys.argv[1])
