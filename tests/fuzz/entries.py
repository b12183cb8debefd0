"""All entries, and how many inputs each gets."""

from tests.fuzz import codecs, controls, declarations, http, models, sources, stream, views
from tests.fuzz.entry import Entry

ENTRIES: list[Entry] = [
    *sources.entries(),
    *stream.entries(),
    *controls.entries(),
    *views.entries(),
    *codecs.entries(),
    *declarations.entries(),
    *http.entries(),
    *models.entries(),
]


def shared(inputs: int, only: str | None = None) -> dict[str, int]:
    """How many of so many inputs each entry gets; `only`: those whose name holds it."""
    chosen = [entry for entry in ENTRIES if only is None or only in entry.name]
    weight = sum(entry.weight for entry in chosen)
    return {entry.name: -(-inputs * entry.weight // weight) for entry in chosen}
