"""The first draft of a loop from samples of its events: what `trimtab init` writes."""

import json
from collections.abc import Sequence
from pathlib import Path

from trimtab.loops import declaration, files
from trimtab.loops.draft import samples, split
from trimtab.loops.draft.compose import from_events, from_one
from trimtab.loops.draft.guesses import Ask, Choices, Notes, Question, take_defaults
from trimtab.loops.draft.plan import Draft
from trimtab.loops.draft.texts import loop_toml, schema
from trimtab.loops.errors import DraftError
from trimtab.loops.model import Loop

__all__ = ["Ask", "Choices", "Draft", "Question", "draft", "take_defaults", "write"]


def draft(paths: Sequence[Path], choices: Choices, ask: Ask) -> Draft:
    """A draft from one sample of finished cases, or from one file an event. Raises DraftError.

    What cannot be guessed is asked for with `ask`; every guess is in the draft's notes with its reason.
    """
    read = [samples.read(path, choices.zone) for path in paths]
    notes = Notes([note for sample in read for note in sample.notes])
    name = split.plain(choices.name or paths[0].stem) or "loop"
    compose = from_one(read[0], name, choices, ask, notes) if len(read) == 1 else None
    return compose or from_events(read, name, choices, ask, notes)


def write(made: Draft, folder: Path) -> Loop:
    """Writes `loop.toml`, the schemas and the events' files below `data`; the loop as it is read back.

    Raises DraftError where the folder already declares a loop: nothing of it is touched.
    """
    if (folder / declaration.FILE).exists():
        raise DraftError(f"{folder / declaration.FILE} is there already", "another --out, or remove it first")
    (folder / files.DATA).mkdir(parents=True, exist_ok=True)
    for event in made.outline.events:
        content = json.dumps(schema(made.outline, event), indent=2, ensure_ascii=False)
        (folder / f"{event.name}.avsc").write_text(content + "\n", "utf-8")
        event.rows.write_parquet(folder / files.DATA / f"{event.name}.parquet")
    (folder / declaration.FILE).write_text(loop_toml(made), "utf-8")
    return declaration.load(folder)
