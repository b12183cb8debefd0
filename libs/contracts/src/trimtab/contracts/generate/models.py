"""The control events' pydantic models, by datamodel-code-generator."""

import json
import re
from collections.abc import Mapping
from typing import Any

from datamodel_code_generator import GenerateConfig, InputFileType, LiteralType, generate
from datamodel_code_generator.enums import DataModelType
from datamodel_code_generator.format import Formatter, PythonVersion

from trimtab.contracts.generate.python import HEAD
from trimtab.contracts.generate.source import Sources

INSTANT = "trimtab.contracts.times.Instant"
TIMES = ("at", "since", "until", "effective_at", "first_at", "last_at")
_HEAD = re.compile(r"\A(#.*\n)*\s*")
_ROOT = re.compile(r"class Contracts\(RootModel.*?\n\n\n", re.DOTALL)


def control(sources: Sources) -> str:
    """One module with a frozen model for every control event and everything inside them."""
    inlined = {name for name, schema in sources.definitions.items() if schema["type"] != "object"}
    definitions = {
        name: _rewritten(schema, sources, inlined)
        for name, schema in sources.definitions.items()
        if name not in inlined
    }
    definitions |= {schema["title"]: _rewritten(schema, sources, inlined) for schema in sources.control.values()}
    for definition in definitions.values():
        definition.pop("$id", None)
        definition.pop("$schema", None)
    found = generate(json.dumps({"title": "Contracts", "$defs": definitions}), config=_config(sources))
    return HEAD + _ROOT.sub("", _HEAD.sub("", str(found))).replace(", RootModel", "")


def _config(sources: Sources) -> GenerateConfig:
    aliases: dict[str, str | list[str]] = {name: f"{name}_ms" for name in TIMES}
    aliases |= {"from": "from_", "schema": "schema_"}
    for title, schema in [(s["title"], s) for s in (*sources.control.values(), *sources.definitions.values())]:
        if schema.get("properties", {}).get("from", {}).get("$ref", "").endswith("/Instant"):
            aliases[f"{title}.from"] = "from_ms"
    return GenerateConfig(
        input_file_type=InputFileType.JsonSchema,
        output_model_type=DataModelType.PydanticV2BaseModel,
        target_python_version=PythonVersion.PY_311,
        formatters=[Formatter.BUILTIN],
        extra_fields="ignore",
        enable_faux_immutability=True,
        use_generic_container_types=True,
        use_standard_collections=True,
        use_annotated=True,
        field_constraints=True,
        use_union_operator=True,
        enum_field_as_literal=LiteralType.All,
        use_schema_description=True,
        use_field_description=True,
        allow_population_by_field_name=True,
        disable_timestamp=True,
        aliases=aliases,
    )


def _rewritten(node: Any, sources: Sources, inlined: set[str]) -> Any:
    """References into common.schema.json resolved: scalars are put in place, times become `Instant`."""
    if isinstance(node, list):
        return [_rewritten(member, sources, inlined) for member in node]
    if not isinstance(node, Mapping):
        return node
    if "$ref" not in node:
        return {name: _rewritten(value, sources, inlined) for name, value in node.items()}
    name = node["$ref"].rpartition("/")[2]
    rest = {key: value for key, value in node.items() if key != "$ref"}
    if name == "Instant":
        return {"type": "string", "customTypePath": INSTANT, **rest}
    if name in inlined:
        scalar = {key: value for key, value in sources.definitions[name].items() if key not in ("title", "description")}
        return {**scalar, **rest}
    return {"$ref": f"#/$defs/{name}", **rest}
