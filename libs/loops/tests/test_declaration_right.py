"""Right declarations: what they mean, their defaults, digests and names, and the way through `loop.declared`."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimtab.loops import declaration
from trimtab.loops.declaration.positions import locate
from trimtab.loops.declaration.quantities import DAY_MS, HOUR_MS, MINUTE_MS, duration_ms, duration_text
from trimtab.loops.errors import DeclaredError
from trimtab.loops.model import Drift, Gate, Label, Loop, Quality, Retrain, Train, Window

EXAMPLES = Path(__file__).parents[3] / "examples"

SMALLEST = """
[loop]
name = "clicks"
[events]
shown = { schema = "shown.avsc", time = "at" }
clicked = { schema = "clicked.avsc", time = "at" }
[predict]
on = "shown"
key = "id"
[label]
of = "clicked"
by = ["id"]
within = "30m"
value = "count() > 0"
[features.row]
price = "price"
[features.groups.user]
of = "clicked"
by = ["user"]
windows = ["24h", "7d@7d"]
values = { n = "count()", paid = "sum(price)" }
[features.latest.last]
of = "clicked"
by = ["user"]
values = ["price"]
[model]
estimator = "sklearn.linear_model.LogisticRegression"
"""
FIELDS: Mapping[str, Any] = {"id": "string", "at": "string", "user": "string", "price": "double"}
SCHEMA = {"type": "record", "name": "e", "fields": [{"name": key, "type": FIELDS[key]} for key in FIELDS]}
SCHEMAS = {"shown": SCHEMA, "clicked": SCHEMA}


def smallest(text: str = SMALLEST) -> Loop:
    return declaration.parse(text, SCHEMAS)


def test_defaults() -> None:
    loop = smallest()

    assert (loop.version, loop.task, loop.partitions, loop.clock) == (0, "binary", 2, "event")
    assert (loop.lateness_ms, loop.max_ahead_ms, loop.max_gap_ms, loop.catch_up_ms) == (
        0,
        5 * MINUTE_MS,
        30 * DAY_MS,
        DAY_MS,
    )
    assert loop.quality == Quality({}, {"rejected": 0.02, "missing": 0.05})
    assert loop.label == Label("clicked", ("id",), 30 * MINUTE_MS, "count() > 0", "close", 30 * MINUTE_MS)
    assert loop.train == Train(window_ms=None, first_rows=2000, first_positives=50, fit_time_ms=0)
    assert loop.gate == Gate(14 * DAY_MS, "not_worse", 0.02, 0.9, DAY_MS, ("constant",), 7 * DAY_MS)
    assert loop.drift == Drift(60 * DAY_MS, 7 * DAY_MS, {"loss": 0.5, "estimate": 0.2, "score": 0.1, "features": 0.2})
    assert loop.retrain == Retrain(("loss", "estimate"), 1.5, None, None, 7 * DAY_MS, (24, 365 * DAY_MS))
    assert (loop.model.params, loop.model.calibrate, loop.model.metric) == ({}, "none", "log_loss")
    assert (loop.asks.name, loop.asks.id, loop.asks.subject, loop.asks.expect) == ("shown", None, None, None)


def test_dedupe_lasts_as_long_as_the_longest_window_or_label() -> None:
    assert smallest().asks.dedupe_ms == 14 * DAY_MS
    assert smallest(SMALLEST.replace("30m", "60d")).asks.dedupe_ms == 60 * DAY_MS
    assert smallest(SMALLEST.replace('"7d@7d"', '"1h"')).asks.dedupe_ms == 7 * DAY_MS
    declared = SMALLEST.replace('schema = "shown.avsc",', 'schema = "shown.avsc", dedupe = "2d",')
    assert smallest(declared).asks.dedupe_ms == 2 * DAY_MS


def test_names_of_features_in_their_order() -> None:
    assert smallest().features.names == (
        "price",
        "user_n_24h",
        "user_n_7d_ago_7d",
        "user_paid_24h",
        "user_paid_7d_ago_7d",
        "last_price",
    )


def test_windows_and_grains() -> None:
    group, latest = smallest().features.groups[0], smallest().features.latest[0]

    assert group.windows == (Window("24h", DAY_MS, 0), Window("7d@7d", 7 * DAY_MS, 7 * DAY_MS))
    assert group.grain_ms == MINUTE_MS
    assert (latest.max_age_ms, latest.grain_ms) == (30 * DAY_MS, MINUTE_MS)


def test_the_grain_of_all_features_divides_that_of_each() -> None:
    features = smallest().features
    group = features.groups[0]

    assert features.grain_ms == MINUTE_MS
    assert (
        replace(features, groups=[replace(group, grain_ms=10_000), replace(group, grain_ms=15_000)]).grain_ms == 5_000
    )
    assert replace(features, groups=[], latest=[]).grain_ms == 1


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('name = "clicks"', 'name = "clicks"\nlateness = "1m"', True),
        ("[model]", "# a comment\n[model]", True),
        ('values = { n = "count()", paid = "sum(price)" }', 'values = { paid = "sum(price)", n = "count()" }', True),
        ('"sum(price)"', '"avg(price)"', False),
        ('"24h"', '"12h"', False),
        ("groups.user", "groups.person", False),
    ],
)
def test_a_group_is_its_definition(old: str, new: str, same: bool) -> None:
    changed = smallest(SMALLEST.replace(old, new))

    assert (changed.features.groups[0].digest == smallest().features.groups[0].digest) is same


def test_the_digest_is_of_the_content_not_of_its_order_or_comments() -> None:
    reordered = SMALLEST.replace('on = "shown"\nkey = "id"', 'key = "id" # named\non = "shown"')

    assert smallest(reordered).digest == smallest().digest
    assert smallest(SMALLEST.replace("30m", "31m")).digest != smallest().digest
    other = {**SCHEMA, "doc": "changed"}
    assert declaration.parse(SMALLEST, {**SCHEMAS, "shown": other}).digest != smallest().digest


def test_through_loop_declared_and_back() -> None:
    loop = smallest()
    content, schemas = json.loads(json.dumps(declaration.declared(loop)))

    again = declaration.from_declared(content, schemas, version=3, partitions=4, digest=loop.digest)

    assert (again.version, again.partitions, again.digest) == (3, 4, loop.digest)
    assert (again.features, again.label, again.events) == (loop.features, loop.label, loop.events)


def test_a_declared_loop_whose_content_was_changed_is_refused() -> None:
    loop = smallest()
    content, schemas = json.loads(json.dumps(declaration.declared(loop)))
    content["label"]["within"] = "1d"

    with pytest.raises(DeclaredError, match="has digest"):
        declaration.from_declared(content, schemas, version=1, partitions=2, digest=loop.digest)


@pytest.mark.parametrize("where", ["declaration", "schema", "key"])
def test_a_declared_loop_with_half_a_character_is_refused(where: str) -> None:
    loop = smallest()
    content, schemas = json.loads(json.dumps(declaration.declared(loop)))
    half = json.loads('"half \\ud800"')
    if where == "declaration":
        content["loop"]["name"] = half
    elif where == "schema":
        next(iter(schemas.values()))["name"] = half
    else:
        content["features"][half] = {}

    with pytest.raises(DeclaredError, match="no Unicode text"):
        declaration.from_declared(content, schemas, version=1, partitions=2, digest=loop.digest)


def test_a_declared_loop_of_another_version_of_the_format_is_refused() -> None:
    loop = smallest()
    content, schemas = json.loads(json.dumps(declaration.declared(loop)))
    content["label"]["censor"] = {}

    with pytest.raises(DeclaredError, match="not yet supported"):
        declaration.from_declared(content, schemas, version=1, partitions=2, digest=loop.digest)


def test_never_grown() -> None:
    assert smallest(SMALLEST + "[retrain]\ngrown = 0\n").retrain.grown is None


@pytest.mark.parametrize("folder", sorted(path.parent for path in EXAMPLES.glob("*/loop.toml")), ids=lambda p: p.name)
def test_examples_are_right(folder: Path) -> None:
    assert declaration.load(folder).name == folder.name


@given(st.integers(0, 10**12))
def test_durations_there_and_back(ms: int) -> None:
    assert duration_ms(duration_text(ms)) == ms


def test_duration_units() -> None:
    assert [duration_ms(text) for text in ("5ms", "90s", "10m", "1h", "7d", "2w", "1y")] == [
        5,
        90_000,
        600_000,
        HOUR_MS,
        7 * DAY_MS,
        14 * DAY_MS,
        365 * DAY_MS,
    ]


TRICKY = '''\
top = """many
lines with [tables] and "quotes"
"""
list = [ # comment ]
  1, 2,
  { in = "a,]}", n = [ [3], ] },
]
[a."quoted.key"]
b . c = { d = 1, "e f" = 'lit]eral', g.h = 2013-01-01T00:00:00Z }
[[many]]
k = 1
[[many]]
k = true # last
'''


def test_positions_in_a_text_with_everything() -> None:
    assert tomllib.loads(TRICKY), "the text is TOML"

    lines = locate(TRICKY)

    assert {path: lines[path] for path in lines if len(path) != 1} == {
        ("list", 0): 5,
        ("list", 1): 5,
        ("list", 2): 6,
        ("list", 2, "in"): 6,
        ("list", 2, "n"): 6,
        ("list", 2, "n", 0): 6,
        ("list", 2, "n", 0, 0): 6,
        ("a", "quoted.key"): 8,
        ("a", "quoted.key", "b"): 9,
        ("a", "quoted.key", "b", "c"): 9,
        ("a", "quoted.key", "b", "c", "d"): 9,
        ("a", "quoted.key", "b", "c", "e f"): 9,
        ("a", "quoted.key", "b", "c", "g"): 9,
        ("a", "quoted.key", "b", "c", "g", "h"): 9,
        ("many", 0): 10,
        ("many", 0, "k"): 11,
        ("many", 1): 12,
        ("many", 1, "k"): 13,
    }


KEYS = st.text("abcXYZ09_-", min_size=1, max_size=6)
VALUES = st.recursive(
    st.integers(-9, 9) | st.booleans() | st.text("ab,]}[{#='. ", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def written(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {written(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[\n" + "".join(f"  {written(inner)}, # [{{\n" for inner in value) + "]"
    return json.dumps(value)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), max_size=4))
def test_every_key_has_a_position(data: dict[str, dict[str, object]]) -> None:
    tables = (
        f"[{name}]\n" + "".join(f"{k} = {written(v)}\n" for k, v in table.items()) for name, table in data.items()
    )
    text = "".join(tables)
    assert tomllib.loads(text) == data

    lines = locate(text)

    for name, table in data.items():
        assert text.splitlines()[lines[(name,)] - 1] == f"[{name}]"
        for key in table:
            assert text.splitlines()[lines[(name, key)] - 1].startswith(f"{key} = ")
