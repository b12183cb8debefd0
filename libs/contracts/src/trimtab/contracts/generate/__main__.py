"""Writes what follows from schemas/, after checking that schemas/ is right and breaks nothing that is released."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from trimtab.contracts.generate import compat, docs, models, python
from trimtab.contracts.generate.cards import cards, settings_page
from trimtab.contracts.generate.source import Sources, read
from trimtab.contracts.generate.validate import problems

PACKAGE = Path("libs/contracts/src/trimtab/contracts/_generated")
RELEASED = Path("schemas/compat/released.json")


def outputs(root: Path, sources: Sources) -> Mapping[Path, str]:
    """Every file that follows from the sources, by its place, with its content."""
    modules = {
        "names": python.names(sources),
        "catalogue": python.catalogue(sources),
        "metrics": python.metrics(sources),
        "avro": python.avro(sources),
        "events": python.events(sources),
        "data": python.structs(sources),
        "control": models.control(sources),
    }
    pages = docs.pages(sources, (root / "ARCHITECTURE.md").read_text())
    return {
        **{root / PACKAGE / f"{name}.py": text for name, text in modules.items()},
        **{root / path: text for path, text in pages.items()},
        **cards(root, sources),
        root / "docs/settings.md": settings_page(sorted({stage.service for stage in sources.stages.values()})),
    }


def stale(files: Mapping[Path, str]) -> list[Path]:
    """The files whose content is not what it should be."""
    return [path for path, content in files.items() if not path.is_file() or path.read_text() != content]


def wrong(root: Path) -> list[str]:
    """What is wrong in schemas/, or breaks what is released."""
    found = problems(root / "schemas")
    if found or not (root / RELEASED).is_file():
        return found
    return list(compat.broken(json.loads((root / RELEASED).read_text()), read(root / "schemas")))


def write(files: Mapping[Path, str]) -> None:
    """Write what differs, and say which."""
    for path in stale(files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path])
        sys.stdout.write(f"{path}\n")


def main(arguments: list[str], root: Path) -> int:
    """0; 1 where schemas/ is wrong or, with --check, something is stale."""
    parser = argparse.ArgumentParser(prog="python -m trimtab.contracts.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when something is stale")
    parser.add_argument("--release", action="store_true", help="from now on, what schemas/ says may not be broken")
    options = parser.parse_args(arguments)
    complaints = wrong(root)
    files = outputs(root, read(root / "schemas"))
    if options.check:
        complaints += [f"{path.relative_to(root)} is stale: run `make gen`" for path in stale(files)]
    else:
        write(files)
    if options.release and not complaints:
        write({root / RELEASED: compat.released(read(root / "schemas"))})
    sys.stderr.writelines(f"{complaint}\n" for complaint in complaints)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path.cwd()))
