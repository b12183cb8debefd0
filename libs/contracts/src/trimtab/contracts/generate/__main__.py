"""`python -m trimtab.contracts.generate [--check]`: writes what follows from schemas/, or fails when it is stale."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from trimtab.contracts.generate import models, python
from trimtab.contracts.generate.source import Sources, read

PACKAGE = Path("libs/contracts/src/trimtab/contracts/_generated")


def outputs(root: Path, sources: Sources) -> Mapping[Path, str]:
    """Every file that follows from the sources, by its place, with its content."""
    return {
        root / PACKAGE / "names.py": python.names(sources),
        root / PACKAGE / "catalogue.py": python.catalogue(sources),
        root / PACKAGE / "metrics.py": python.metrics(sources),
        root / PACKAGE / "avro.py": python.avro(sources),
        root / PACKAGE / "events.py": python.events(sources),
        root / PACKAGE / "data.py": python.structs(sources),
        root / PACKAGE / "control.py": models.control(sources),
    }


def stale(files: Mapping[Path, str]) -> list[Path]:
    """The files whose content is not what it should be."""
    return [path for path, content in files.items() if not path.is_file() or path.read_text() != content]


def main(arguments: list[str], root: Path) -> int:
    """0, or 1 where --check found something stale."""
    parser = argparse.ArgumentParser(prog="python -m trimtab.contracts.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when something is stale")
    options = parser.parse_args(arguments)
    found = outputs(root, read(root / "schemas"))
    old = stale(found)
    if options.check:
        for path in old:
            sys.stderr.write(f"{path.relative_to(root)} is stale: run `make gen`\n")
        return 1 if old else 0
    for path in old:
        path.write_text(found[path])
        sys.stdout.write(f"{path.relative_to(root)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path.cwd()))
