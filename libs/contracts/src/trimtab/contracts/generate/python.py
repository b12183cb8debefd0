"""The generated modules that are plain data: names, catalogue, metrics, Avro schemas and their structs."""

import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from pprint import pformat
from typing import Any

from trimtab.contracts.generate.source import Sources

HEAD = '"""Generated from schemas/ by `python -m trimtab.contracts.generate`. Never edited."""\n\n'
_PRIMITIVES = {
    "null": "None",
    "boolean": "bool",
    "int": "int",
    "long": "int",
    "float": "float",
    "double": "float",
    "string": "str",
    "bytes": "bytes",
}


def names(sources: Sources) -> str:
    """Constants of the topics that loops share."""
    shared = [topic for topic in sources.topics.values() if topic.per == "all"]
    return HEAD + "\n".join(f'{topic.name.upper()} = "{topic.topic}"' for topic in shared) + "\n"


def catalogue(sources: Sources) -> str:
    """All topic templates and stages."""
    return (
        HEAD
        + "from collections.abc import Mapping\n\n"
        + "from trimtab.contracts.specs import StageSpec, TopicTemplate\n\n"
        + "TEMPLATES: Mapping[str, TopicTemplate] = "
        + pformat(dict(sources.topics), width=118, sort_dicts=False)
        + "\nSTAGES: Mapping[str, StageSpec] = "
        + pformat(dict(sources.stages), width=118, sort_dicts=False)
        + "\n"
    )


def metrics(sources: Sources) -> str:
    """A constant for each metric, and all of them by name."""
    lines = [f"{metric_constant(name)} = {pformat(metric, width=118)}" for name, metric in sources.metrics.items()]
    every = ", ".join(metric_constant(name) for name in sources.metrics)
    return (
        HEAD
        + "from collections.abc import Mapping\n\nfrom trimtab.contracts.specs import Metric\n\n"
        + "\n".join(lines)
        + f"\nMETRICS: Mapping[str, Metric] = {{metric.name: metric for metric in ({every})}}\n"
    )


def metric_constant(name: str) -> str:
    """The Python name of a metric.

    >>> metric_constant("trimtab.retrain-controller.requests"), metric_constant("http.server.request.duration")
    ('RETRAIN_CONTROLLER_REQUESTS', 'HTTP_SERVER_REQUEST_DURATION')
    """
    return re.sub(r"[^A-Za-z0-9]", "_", name.removeprefix("trimtab.")).upper()


def avro(sources: Sources) -> str:
    """The Avro schemas as they are, so that an installed service has them."""
    schemas = pformat(dict(sources.data), width=118, sort_dicts=False)
    return (
        HEAD
        + "from collections.abc import Mapping\nfrom typing import Any\n\n"
        + f"SCHEMAS: Mapping[str, Mapping[str, Any]] = {schemas}\n"
    )


def events(sources: Sources) -> str:
    """Control topic → model."""
    titles = [sources.control[topic]["title"] for topic in sources.control]
    pairs = ",\n".join(f'    "{topic}": {schema["title"]}' for topic, schema in sources.control.items())
    imports = ",\n".join(f"    {title}" for title in sorted(titles))
    return (
        HEAD
        + "from collections.abc import Mapping\n\n"
        + f"from trimtab.contracts._generated.control import (\n{imports},\n)\n\n"
        + f"Event = {' | '.join(titles)}\n\n"
        + f"BY_TOPIC: Mapping[str, type[Event]] = {{\n{pairs},\n}}\n"
    )


def structs(sources: Sources) -> str:
    """A frozen struct for each Avro record, inner ones first."""
    bodies: dict[str, str] = {}
    for schema in sources.data.values():
        for name, body in _records(schema):
            bodies.setdefault(name, body)
    known = "".join(f'    {schema["name"]}: "{stem}",\n' for stem, schema in sources.data.items())
    return (
        HEAD
        + "from collections.abc import Mapping, Sequence\n\nimport msgspec\n\n\n"
        + "\n\n".join(bodies.values())
        + f"\nSCHEMA_OF: Mapping[type[msgspec.Struct], str] = {{\n{known}}}\n"
    )


def _records(schema: Any) -> Iterator[tuple[str, str]]:
    if isinstance(schema, list):
        for member in schema:
            yield from _records(member)
    if not isinstance(schema, Mapping):
        return
    for inner in ("type", "items", "values"):
        if inner in schema and not isinstance(schema[inner], str):
            yield from _records(schema[inner])
    if schema.get("type") == "record" and "values" not in schema:
        for field in schema["fields"]:
            yield from _records(field["type"])
        yield schema["name"], _struct(schema)


def _struct(schema: Mapping[str, Any]) -> str:
    renamed = {_python_name(field["name"]): field["name"] for field in schema["fields"]}
    renamed = {python: avro_name for python, avro_name in renamed.items() if python != avro_name}
    options = f", rename={renamed!r}" if renamed else ""
    fields = "\n".join(_field(field) for field in schema["fields"])
    return (
        f"class {schema['name']}(msgspec.Struct, frozen=True, kw_only=True{options}):\n"
        f'    """{schema["doc"]}"""\n\n{fields}\n'
    )


def _field(field: Mapping[str, Any]) -> str:
    default = " = None" if "default" in field and field["default"] is None else ""
    return f'    {_python_name(field["name"])}: {python_type(field["type"])}{default}\n    """{field["doc"]}"""'


def _python_name(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def python_type(schema: Any) -> str:
    """The annotation of an Avro type. A record with `values` is open: its fields are named by the loop."""
    if isinstance(schema, str):
        return _PRIMITIVES.get(schema, schema.rpartition(".")[2])
    if isinstance(schema, Sequence):
        members = dict.fromkeys(python_type(member) for member in schema)
        return " | ".join(sorted(members, key=lambda name: name == "None"))
    if schema["type"] == "array":
        return f"Sequence[{python_type(schema['items'])}]"
    if "values" in schema:
        return f"Mapping[str, {python_type(schema['values'])}]"
    return str(schema["name"]) if schema["type"] == "record" else python_type(schema["type"])
