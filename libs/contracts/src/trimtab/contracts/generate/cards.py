"""A service's card: which topics it reads and writes, and its settings, between the markers of its README."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trimtab.contracts.generate.docs import marked, table
from trimtab.contracts.generate.source import Sources
from trimtab.contracts.specs import TopicTemplate

TOPICS, SETTINGS = "topics", "settings"


def cards(root: Path, sources: Sources) -> Mapping[Path, str]:
    """The README of every service, as it should be. Raises ValueError where one has no markers."""
    return {path: _card(path, sources) for path in sorted((root / "services").glob("*/README.md"))}


def _card(path: Path, sources: Sources) -> str:
    service = path.parent.name
    try:
        text = marked(path.read_text(), TOPICS, topics_card(sources, service))
        return marked(text, SETTINGS, settings_card(_settings(service)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def topics_card(sources: Sources, service: str) -> str:
    """What a service reads and writes, from schemas/topics."""
    rows = [
        ["reads" if reading else "writes", f"`{topic.topic}`", ", ".join(ends)]
        for reading in (True, False)
        for topic in sources.topics.values()
        if (ends := _ends(topic, service, reading))
    ]
    return table(["", "topic", "by"], rows)


def _ends(topic: TopicTemplate, service: str, reading: bool) -> list[str]:
    ends = topic.readers if reading else topic.writers
    return [f"`{end}`" for end in ends if end.startswith(f"{service}.")]


def _settings(service: str) -> type[BaseModel]:
    """The settings class of a service, which is installed wherever this runs: in a checkout, with everything."""
    module: ModuleType = importlib.import_module(f"trimtab.{service.replace('-', '_')}.settings")
    settings: type[BaseModel] = module.Settings
    return settings


def settings_card(settings: type[BaseModel]) -> str:
    """Every setting with its name in the environment, its default and what it says of itself."""
    rows = [
        [f"`{name}`", f"`{default}`" if default else "", text] for name, default, text in _rows("TRIMTAB_", settings)
    ]
    return table(["setting", "default", "what it does"], rows)


def _rows(prefix: str, model: type[BaseModel], group: str = "") -> Iterator[tuple[str, str, str]]:
    """(name, default, words) of each setting; one that says nothing of itself has its group's words."""
    for name, field in model.model_fields.items():
        inner, words = field.annotation, field.description or group
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _rows(f"{prefix}{name.upper()}__", inner, words)
        else:
            yield f"{prefix}{name.upper()}", _default(field), words


def _default(field: FieldInfo) -> str:
    if field.default in (PydanticUndefined, None, Path()):
        return ""
    return str(field.default)


_PAGE = """# Settings

Made from the services' own settings by `make gen`. All are environment variables; none needs to be set for
`trimtab up`, which gives each service what it needs. The command line reads `TRIMTAB_DATA_DIR`, `TRIMTAB_KAFKA__…` and
`TRIMTAB_CACHE_DIR`: where Kafka's jars are kept for all clusters of a user (the user's own cache folder)."""


def settings_page(services: Sequence[str]) -> str:
    """docs/settings.md: every setting, and which services know it."""
    known: dict[tuple[str, str, str], list[str]] = {}
    for service in services:
        for row in _rows("TRIMTAB_", _settings(service)):
            known.setdefault(row, []).append(service)
    rows = [
        [
            f"`{name}`",
            f"`{default}`" if default else "",
            "all" if len(users) == len(services) else ", ".join(users),
            text,
        ]
        for (name, default, text), users in known.items()
    ]
    return "\n\n".join([_PAGE, table(["setting", "default", "of", "what it does"], rows)]) + "\n"
