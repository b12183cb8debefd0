"""A loop's own prediction schema: the template of schemas/data/prediction.avsc with the names of its features."""

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from trimtab.contracts._generated.avro import SCHEMAS
from trimtab.contracts.errors import ContractError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class AmbiguousFeaturesError(ContractError):
    """Two features whose names become the same Avro name."""

    def __init__(self, first: str, second: str, field: str) -> None:
        super().__init__(f"features {first!r} and {second!r} would both be the field {field!r}: rename one")
        self.first = first
        self.second = second
        self.field = field


def field_name(feature: str) -> str:
    """The Avro field of a feature: what an Avro name may not hold becomes an underscore.

    >>> field_name("card.n.7d@7d"), field_name("hour")
    ('card_n_7d_7d', 'hour')
    """
    if _NAME.fullmatch(feature):
        return feature
    name = re.sub(r"[^A-Za-z0-9_]", "_", feature)
    return f"_{name}" if name[:1].isdigit() or not name else name


def prediction_schema(
    loop: str, features: Sequence[str], *, categorical: Collection[str] = (), aged: Sequence[str] = ()
) -> dict[str, Any]:
    """The Avro schema of `<loop>.predictions`. Raises AmbiguousFeaturesError.

    `features`: names in the vector's order; those in `categorical` are strings, the others doubles; all may be null.
    `aged`: those that were looked up, so that their age is recorded. The field of a feature is `field_name(feature)`.
    """
    schema: dict[str, Any] = json.loads(json.dumps(SCHEMAS["prediction"]))
    schema["namespace"] = f"trimtab.{loop}"
    for field in schema["fields"]:
        if field["name"] == "features":
            field["type"].pop("values")
            field["type"]["fields"] = _fields(features, dict.fromkeys(categorical, "string"), "double")
        if field["name"] == "ages_ms":
            field["type"].pop("values")
            field["type"]["fields"] = _fields(aged, {}, "long")
    return schema


def _fields(names: Sequence[str], types: dict[str, str], other: str) -> list[dict[str, Any]]:
    taken: dict[str, str] = {}
    for name in names:
        field = field_name(name)
        if field in taken:
            raise AmbiguousFeaturesError(taken[field], name, field)
        taken[field] = name
    return [
        {"name": field, "type": ["null", types.get(name, other)], "default": None, "doc": name}
        for field, name in taken.items()
    ]
