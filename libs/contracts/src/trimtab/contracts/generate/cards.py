"""A service's card: which topics it reads and writes, and its settings, between the markers of its README."""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trimtab.contracts.generate.docs import START, marked, table
from trimtab.contracts.generate.source import Sources
from trimtab.contracts.specs import TopicTemplate

TOPICS, SETTINGS = "topics", "settings"


def cards(root: Path, sources: Sources) -> Mapping[Path, str]:
    """The README of every service that has the markers, as it should be."""
    found = {}
    for path in sorted((root / "services").glob("*/README.md")):
        text, service = path.read_text(), path.parent.name
        if START.format(name=TOPICS) in text:
            text = marked(text, TOPICS, topics_card(sources, service))
        if START.format(name=SETTINGS) in text:
            text = marked(text, SETTINGS, settings_card(_settings(service)))
        found[path] = text
    return found


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


def _rows(prefix: str, model: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _rows(f"{prefix}{name.upper()}__", inner)
        else:
            yield f"{prefix}{name.upper()}", _default(field), field.description or ""


def _default(field: FieldInfo) -> str:
    if field.default in (PydanticUndefined, None):
        return ""
    return str(field.default)
