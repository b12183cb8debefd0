"""Reads schemas/ into frozen data; what it should be is checked in `validate`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trimtab.contracts.specs import Metric, StageSpec, TopicTemplate


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything under schemas/. Topics by name, control schemas by topic, Avro schemas by file stem."""

    topics: Mapping[str, TopicTemplate]
    stages: Mapping[str, StageSpec]
    edges: Mapping[str, str]
    control: Mapping[str, Mapping[str, Any]]
    definitions: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, Metric]
    attributes: Mapping[str, str]


def read(folder: Path) -> Sources:
    """Read a schemas/ folder that `validate.problems` finds nothing wrong with."""
    topics = [_topic(load_yaml(path)) for path in sorted((folder / "topics").glob("*.yaml"))]
    people = load_yaml(folder / "stages.yaml")
    telemetry = load_yaml(folder / "telemetry.yaml")
    control = {
        path.name.removesuffix(".schema.json"): load_json(path) for path in sorted((folder / "control").glob("*"))
    }
    return Sources(
        topics={topic.name: topic for topic in topics},
        stages={name: StageSpec(name=name, **stage) for name, stage in people["stages"].items()},
        edges=people["edges"],
        definitions=control.pop("common")["$defs"],
        control=control,
        data={path.stem: load_json(path) for path in sorted((folder / "data").glob("*.avsc"))},
        metrics={name: _metric(name, metric) for name, metric in telemetry["metrics"].items()},
        attributes=telemetry["attributes"],
    )


def load_yaml(path: Path) -> Any:
    """A YAML file as plain data."""
    return yaml.load(path.read_text(), Loader=yaml.CSafeLoader)


def load_json(path: Path) -> Any:
    """A JSON file as plain data."""
    return json.loads(path.read_text())


def _topic(raw: Mapping[str, Any]) -> TopicTemplate:
    return TopicTemplate(**{"schema": None, **raw, "writers": tuple(raw["writers"]), "readers": tuple(raw["readers"])})


def _metric(name: str, raw: Mapping[str, Any]) -> Metric:
    return Metric(name=name, **{**raw, "attributes": tuple(raw["attributes"])})
