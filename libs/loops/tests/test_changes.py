"""What a changed declaration changes, in the words of `trimtab plan`."""

import pytest
from trimtab.loops import declaration
from trimtab.loops.changes import compare, refused, topic_names
from trimtab.loops.model import Loop

TEXT = """
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
windows = ["24h"]
values = { n = "count()" }
[model]
estimator = "sklearn.linear_model.LogisticRegression"
[retrain]
cooldown = "1d"
"""
FIELDS = [{"name": name, "type": "string"} for name in ("id", "at", "user")] + [{"name": "price", "type": "double"}]
SCHEMA = {"type": "record", "name": "e", "fields": FIELDS}


def loop(text: str = TEXT) -> Loop:
    return declaration.parse(text, {"shown": SCHEMA, "clicked": SCHEMA, "bought": SCHEMA})


def told(old: str, new: str) -> list[tuple[str, str]]:
    assert old in TEXT
    return [(change.verb, change.what) for change in compare(loop(), loop(TEXT.replace(old, new)))]


def test_a_new_loop_creates_all_its_topics_and_features() -> None:
    changes = compare(None, loop())

    assert {change.what for change in changes if change.what.startswith("topic")} == {
        f"topic {name}" for name in topic_names(loop())
    }
    assert [change.what for change in changes if change.what.startswith("feature")] == [
        "feature price",
        "feature user_n_24h",
    ]
    assert {change.verb for change in changes} == {"add"}


def test_the_same_declaration_changes_nothing() -> None:
    assert not compare(loop(), loop(TEXT.replace("[model]", "# said again\n[model]")))


RECIPE_OF_FEATURES = ("change", "recipe (features)")

CASES = {
    "a feature more": (
        'price = "price"',
        'price = "price"\nhour = "hour(at)"',
        [("add", "feature hour"), RECIPE_OF_FEATURES],
    ),
    "a feature less": (
        'price = "price"\n',
        "",
        [("remove", "feature price"), RECIPE_OF_FEATURES],
    ),
    "another expression": (
        'price = "price"',
        'price = "price * 2"',
        [("change", "feature price"), RECIPE_OF_FEATURES],
    ),
    "another window": (
        '"24h"',
        '"24h", "7d"',
        [("add", "feature user_n_7d"), ("change", "group user"), RECIPE_OF_FEATURES],
    ),
    "another group": (
        "groups.user",
        "groups.person",
        [
            ("add", "feature person_n_24h"),
            ("remove", "feature user_n_24h"),
            ("add", "group person"),
            ("remove", "group user"),
            RECIPE_OF_FEATURES,
        ],
    ),
    "another estimator": (
        "LogisticRegression",
        "RidgeClassifier",
        [("change", "recipe (estimator)")],
    ),
    "another label": ('"30m"', '"1h"', [("change", "label within"), ("change", "label mature")]),
    "another policy": ('cooldown = "1d"', 'cooldown = "2d"', [("change", "retrain.cooldown")]),
    "a policy declared": ('name = "clicks"', 'name = "clicks"\nlateness = "1m"', [("change", "loop.lateness")]),
    "other partitions": ('name = "clicks"', 'name = "clicks"\npartitions = 4', [("refuse", "partitions 2 → 4")]),
    "an event more": (
        "[predict]",
        'bought = { schema = "bought.avsc", time = "at" }\n[predict]',
        [
            ("add", "topic clicks.source.bought"),
            ("add", "topic clicks.accepted.bought"),
            ("add", "topic clicks.events.bought"),
        ],
    ),
}


OF_NOW = "starts empty: of events from then on"
NO_MODEL = (
    "no model takes these features yet: predictions have no score until one is trained, by itself once [train] "
    "first_after rows with them have matured; its gate has no champion to beat"
)
MEANINGS = {
    "a feature more": {
        "feature hour": "in predictions from then on; no model is trained on those from before",
        "recipe (features)": NO_MODEL,
    },
    "a feature less": {
        "feature price": "not in predictions from then on; models that take it are not served",
        "recipe (features)": NO_MODEL,
    },
    "another expression": {"feature price": "price → price * 2, from then on", "recipe (features)": NO_MODEL},
    "another window": {"group user": f"{OF_NOW}; what the old one held is dropped"},
    "another group": {"group person": OF_NOW, "group user": "what it held is dropped"},
    "another estimator": {
        "recipe (estimator)": "the next challenger is another recipe: its gate asks for better, not for not worse"
    },
}


@pytest.mark.parametrize("case", MEANINGS)
def test_what_a_change_means(case: str) -> None:
    old, new, _ = CASES[case]
    meant = {change.what: change.meaning for change in compare(loop(), loop(TEXT.replace(old, new)))}
    assert {what: meant[what] for what in MEANINGS[case]} == MEANINGS[case]


@pytest.mark.parametrize("case", CASES)
def test_changes(case: str) -> None:
    old, new, changes = CASES[case]

    assert sorted(told(old, new)) == sorted(changes)


def test_a_schema_that_changed() -> None:
    fields = [*FIELDS, {"name": "more", "type": ["null", "string"], "default": None}]
    schemas: dict[str, dict[str, object]] = {"shown": {**SCHEMA, "fields": fields}, "clicked": {**SCHEMA}}

    (change,) = compare(loop(), declaration.parse(TEXT, schemas))

    assert (change.verb, change.what) == ("change", "schema of shown")


MORE = {"name": "more", "type": "string"}
REFUSED = {
    "a field without a default": ([*FIELDS, MORE], "field more is new and needs a default"),
    "another type": ([*FIELDS[:3], {"name": "price", "type": "string"}], "field price has another type"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_schema_that_cannot_read_the_events_on_their_way_is_refused(case: str) -> None:
    fields, reason = REFUSED[case]
    schemas: dict[str, dict[str, object]] = {"shown": {**SCHEMA}, "clicked": {**SCHEMA, "fields": fields}}

    (change,) = refused(loop(), declaration.parse(TEXT, schemas))

    assert (change.verb, change.what) == ("refuse", f"schema of clicked: {reason}")


def test_a_schema_may_gain_a_field_with_a_default_lose_it_and_widen_a_type() -> None:
    wider = [*FIELDS[:3], {"name": "price", "type": ["null", "double"]}, {**MORE, "default": ""}]
    schemas: dict[str, dict[str, object]] = {"shown": {**SCHEMA}, "clicked": {**SCHEMA, "fields": wider}}
    assert not refused(loop(), declaration.parse(TEXT, schemas))
    schemas["clicked"] = {**SCHEMA, "fields": [*FIELDS, {**MORE, "default": ""}]}
    assert not refused(declaration.parse(TEXT, schemas), loop())
