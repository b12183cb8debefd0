"""Wrong declarations: each gives its file, line, key, what is wrong and what would be right."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from trimtab.loops import declaration
from trimtab.loops.declaration.quantities import QuantityError, duration_ms, rate, share, window
from trimtab.loops.errors import DeclarationError, Problem

RIGHT = """
[loop]
name = "card_fraud"
task = "binary"
lateness = "10m"

[events]
payment = { schema = "payment.avsc", id = "event_id", time = "paid_at", expect = "100 per 1h" }
chargeback = { schema = "chargeback.avsc", id = "event_id", time = "booked_at", revisions = true }

[quality]
rules = { payment = "amount > 0" }
hold_when = { rejected = "2%", missing = "+5%" }

[predict]
on = "payment"
key = "event_id"

[label]
of = "chargeback"
by = ["payment_id"]
within = "60d"
value = "count() > 0"
mature = "45d"

[features]
categorical = ["country"]

[features.row]
amount = "amount"
hour = "hour(paid_at)"
country = "country"

[features.groups.card]
of = "payment"
by = ["card"]
windows = ["1h", "7d@7d"]

[features.groups.card.values]
sum = "sum(amount)"

[features.latest.back]
of = "chargeback"
by = ["payment_id"]
values = ["amount"]
max_age = "90d"

[model]
estimator = "sklearn.ensemble.HistGradientBoostingClassifier"
params = { max_iter = 200 }
calibrate = "sigmoid"

[train]
window = "all"
first_after = { rows = 20000, positives = 200 }

[gate]
holdout = "14d"
baselines = ["constant"]

[drift]
weights = { loss = 0.5, estimate = 0.5 }

[retrain]
on = ["loss"]
grown = 1.5
"""


def record(name: str, **types: Any) -> Mapping[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": key, "type": types[key]} for key in types]}


SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "payment": record(
        "payment",
        event_id="string",
        payment_id="string",
        paid_at="string",
        card="string",
        amount="double",
        country=["null", "string"],
    ),
    "chargeback": record(
        "chargeback",
        event_id="string",
        payment_id="string",
        booked_at={"type": "long", "logicalType": "timestamp-millis"},
        amount="double",
        reason="string",
    ),
}


def problems(text: str, schemas: Mapping[str, Mapping[str, Any]] = SCHEMAS) -> tuple[Problem, ...]:
    with pytest.raises(DeclarationError) as caught:
        declaration.parse(text, schemas)
    return caught.value.problems


def test_the_right_one_is_right() -> None:
    assert declaration.parse(RIGHT, SCHEMAS).name == "card_fraud"


WRONG = [
    # part of the text, what stands there instead, key, what is wrong, what would be right
    ('name = "card_fraud"', 'name = "Card Fraud"', "loop.name", "cannot begin the names of topics", "card_fraud"),
    ('name = "card_fraud"', "", "loop", "`name` is missing", 'name = "flights"'),
    ('task = "binary"', 'task = "binery"', "loop.task", "unknown value `binery`", "`binary`"),
    ('task = "binary"', 'task = "quantiles"', "loop.task", "not yet supported", "regression"),
    ('lateness = "10m"', 'latenes = "10m"', "loop.latenes", "unknown key `latenes`", "`lateness`"),
    ('lateness = "10m"', 'lateness = "10 minutes"', "loop.lateness", "is not a duration", '"10m"'),
    ('lateness = "10m"', "lateness = 10", "loop.lateness", "must be a text, not 10", "in quotes"),
    ('lateness = "10m"', "partitions = 0", "loop.partitions", "0 is out of range", "1 to 64"),
    ('lateness = "10m"', "partitions = true", "loop.partitions", "must be a whole number, not true", "number"),
    (
        'time = "paid_at"',
        'time = "payd_at"',
        "events.payment.time",
        "unknown field of `payment` `payd_at`",
        "`paid_at`",
    ),
    ('time = "paid_at"', 'time = "amount"', "events.payment.time", "cannot be read as a time", "RFC 3339"),
    ('time = "paid_at"', 'time = "country"', "events.payment.time", "may be null", 'without "null"'),
    (
        'id = "event_id", time = "booked_at"',
        'time = "booked_at"',
        "events.chargeback.revisions",
        "this event has none",
        "id",
    ),
    ('"100 per 1h"', '"100/h"', "events.payment.expect", "is not a rate", '"100 per 1h"'),
    ("expect =", "expects =", "events.payment.expects", "unknown key", "`expect`"),
    ('{ payment = "amount > 0" }', '{ paymnt = "amount > 0" }', "quality.rules.paymnt", "unknown event", "`payment`"),
    ('"amount > 0"', '"amount + 1"', "quality.rules.payment", "must be true or false", "amount > 0"),
    ('rejected = "2%"', 'rejected = "+2%"', "quality.hold_when.rejected", "is not a share", '"2%"'),
    ('missing = "+5%"', 'missing = "5%"', "quality.hold_when.missing", "is not an increase", '"+5%"'),
    ('rejected = "2%"', 'rejekted = "2%"', "quality.hold_when.rejekted", "unknown key", "`rejected`"),
    ('on = "payment"', 'on = "payments"', "predict.on", "unknown event `payments`", "`payment`"),
    ('key = "event_id"', 'key = "event"', "predict.key", "unknown field of `payment`", "`event_id`"),
    ('key = "event_id"', 'key = "event_id"\nexplore = 0.01', "predict.explore", "not yet supported", "leave `explore`"),
    (
        'of = "chargeback"\nby = ["payment_id"]\nwithin',
        'of = "charge"\nby = ["payment_id"]\nwithin',
        "label.of",
        "unknown event `charge`",
        "`chargeback`",
    ),
    ('within = "60d"', "", "label", "`within` is missing", '"7d"'),
    (
        'by = ["payment_id"]\nwithin',
        'by = ["amnt"]\nwithin',
        "label.by",
        "unknown field of `chargeback` `amnt`",
        "`amount`",
    ),
    (
        'by = ["payment_id"]\nwithin',
        'by = ["reason"]\nwithin',
        "label.by",
        "unknown field of `payment` `reason`",
        "one of",
    ),
    ('"count() > 0"', '"count()"', "label.value", "but the task is binary", "true or false"),
    ('"count() > 0"', '"amount > 0"', "label.value", "outside an aggregate", "last(amount)"),
    ('"count() > 0"', "\"last(reson) = 'x'\"", "label.value", "unknown column `reson`", "`reason`"),
    ('mature = "45d"', 'mature = "0d"', "label.mature", "must be longer than 0", "a duration"),
    ('mature = "45d"', 'settle = "last"', "label.settle", "unknown value `last`", "one of close, first"),
    ('["country"]', '["contry"]', "features.categorical.0", "unknown feature `contry`", "`country`"),
    ('["country"]', "[]", "features.row.country", "`country` is a text", "categorical"),
    ('["country"]', '["country", "amount"]', "features.row.amount", "is categorical but its type is Float64", "a text"),
    ('"hour(paid_at)"', '"hour(payd_at)"', "features.row.hour", "unknown column `payd_at`", "`paid_at`"),
    ('"hour(paid_at)"', '"huor(paid_at)"', "features.row.hour", "`huor` is no allowed function", "`hour`"),
    ('"hour(paid_at)"', '"read_csv(card)"', "features.row.hour", "`read_csv` is no allowed function", "one of abs, "),
    ('"hour(paid_at)"', '"paid_at"', "features.row.hour", "is not a number but Datetime", "hour(at)"),
    ('"hour(paid_at)"', '"amount + "', "features.row.hour", "no SQL expression", "operand"),
    ('"hour(paid_at)"', '"(amount"', "features.row.hour", "no SQL expression", "parenthesis"),
    ('"7d@7d"', '"7d@x"', "features.groups.card.windows.1", "'x' is not a duration", '"90s"'),
    ('"7d@7d"', '"1h"', "features.groups.card.values.sum", "two features are called `card_sum_1h`", "another name"),
    ('"1h", "7d@7d"', '"0s"', "features.groups.card.windows.0", "is an empty window", '"24h"'),
    ('by = ["card"]', 'by = ["cord"]', "features.groups.card.by", "unknown field of `payment` `cord`", "`card`"),
    ('"sum(amount)"', '"median(amount)"', "features.groups.card.values.sum", "`median`", "avg(x)"),
    ('"sum(amount)"', '"sum(country)"', "features.groups.card.values.sum", "cannot be taken of", "count"),
    ('values = ["amount"]', 'values = ["amout"]', "features.latest.back.values.0", "unknown field", "`amount`"),
    (
        "HistGradientBoostingClassifier",
        "HistGradientBoostingRegressor",
        "model.estimator",
        "predicts numbers",
        "classifier",
    ),
    ('"sklearn.ensemble.', '"os.', "model.estimator", "neither in scikit-learn nor", "sklearn.linear_model"),
    ('calibrate = "sigmoid"', 'calibrate = "isotonic"', "model.calibrate", "unknown value", "one of none, sigmoid"),
    ('calibrate = "sigmoid"', 'metric = "logloss"', "model.metric", "unknown value `logloss`", "`log_loss`"),
    ('calibrate = "sigmoid"', 'flag = "top 0.5%"', "model.flag", "not yet supported", "leave `flag` out"),
    ("max_iter = 200", "max_iter = 2013-01-01", "model.params.max_iter", "cannot be carried", "a number"),
    ('window = "all"', 'window = "everything"', "train.window", "is not a duration", '"all"'),
    ("rows = 20000", "rows = 0", "train.first_after.rows", "too few", "rows = 2000"),
    ('holdout = "14d"', 'holdout = "14d"\nblock = "30d"', "gate.block", "longer than the holdout", '"1d"'),
    ('holdout = "14d"', "confidence = 90", "gate.confidence", "is no confidence", "0.9"),
    ('["constant"]', '["seasonal_naive(7d)"]', "gate.baselines.0", "not yet supported", "constant"),
    ('["constant"]', '["constnt"]', "gate.baselines.0", "unknown baseline", "`constant`"),
    ("estimate = 0.5", "estimate = 0.4", "drift.weights", "sum to 0.9", "sum to 1"),
    ("estimate = 0.5", "estimat = 0.5", "drift.weights.estimat", "unknown key", "`estimate`"),
    ('on = ["loss"]', 'on = ["los"]', "retrain.on.0", "unknown kind of drift", "`loss`"),
    ("grown = 1.5", "grown = 0.5", "retrain.grown", "have not grown", "above 1"),
    ("grown = 1.5", 'budget = "0 per 1d"', "retrain.budget", "is not a rate", "above 0"),
    ("[retrain]", "[retrian]", "retrian", "unknown key `retrian`", "`retrain`"),
    ("[drift]", '[notify]\nto = ["x"]\n[drift]', "notify", "not yet supported", "leave `notify` out"),
]


@pytest.mark.parametrize(("old", "new", "key", "wrong", "right"), WRONG, ids=[f"{row[2]}: {row[3]}" for row in WRONG])
def test_wrong_declaration(old: str, new: str, key: str, wrong: str, right: str) -> None:
    assert old in RIGHT, "the case changes something"
    text = RIGHT.replace(old, new, 1)

    found = problems(text)

    named = [problem for problem in found if problem.key == key]
    assert named, f"{[str(problem) for problem in found]}"
    assert wrong in named[0].wrong
    assert right in named[0].right
    assert named[0].line == expected_line(text, key)


def expected_line(text: str, key: str) -> int:
    """The line of the last part of a key that the text names, from the cases' own layout: one table a paragraph."""
    *tables, last = [part for part in key.split(".") if not part.isdigit()]
    lines = text.splitlines()
    header = next((n for n, line in enumerate(lines) if line == f"[{'.'.join([*tables, last])}]"), None)
    if header is not None:
        return header + 1
    start, inner = 0, [last]
    while tables:
        found = [n for n, line in enumerate(lines) if line == f"[{'.'.join(tables)}]"]
        if found:
            start = found[0]
            break
        inner.insert(0, tables.pop())
    own = next((n for n in range(start, len(lines)) if lines[n].startswith(f"{inner[0]} =")), None)
    return (start if own is None else own) + 1


def test_sql_errors_show_a_caret_under_their_position() -> None:
    (problem,) = problems(RIGHT.replace('"hour(paid_at)"', '"amount * hour(payd_at)"'))

    assert problem.excerpt.splitlines() == ["amount * hour(payd_at)", " " * 14 + "^"]
    assert str(problem) == (
        "loop.toml:31: features.row.hour: unknown column `payd_at`\n"
        "    amount * hour(payd_at)\n"
        "                  ^\n"
        "    right: `paid_at`"
    )


def test_all_problems_come_in_one_go_and_in_the_order_of_their_lines() -> None:
    text = RIGHT.replace('"10m"', '"10x"').replace('"60d"', '"60"').replace('"sum(amount)"', '"sum(amuont)"')

    found = problems(text)

    assert [problem.key for problem in found] == ["loop.lateness", "label.within", "features.groups.card.values.sum"]
    assert [problem.line for problem in found] == [5, 22, 40]


def test_a_broken_event_is_told_once_and_not_again_where_it_is_used() -> None:
    found = problems(RIGHT.replace('schema = "payment.avsc", ', ""))

    assert [(problem.key, problem.wrong) for problem in found] == [("events.payment", "`schema` is missing")]


def test_text_that_is_no_toml_names_the_line() -> None:
    (problem,) = problems(RIGHT.replace('on = "payment"', 'on "payment"'))

    assert (problem.line, problem.excerpt) == (16, 'on "payment"')
    assert "not TOML" in problem.wrong


def test_a_number_of_thousands_of_digits_is_told() -> None:
    (problem,) = problems("[loop]\nname = " + "9" * 5_000)

    assert "not TOML" in problem.wrong


@pytest.mark.parametrize(
    ("quantity", "text"),
    [(duration_ms, "{}m"), (rate, "{} per 1h"), (rate, "1 per {}h"), (window, "7d@{}d"), (share, "{}%")],
)
def test_a_quantity_of_thousands_of_digits_is_told_in_short(quantity: Callable[[str], object], text: str) -> None:
    with pytest.raises(QuantityError, match="is not a ") as caught:
        quantity(text.format("9" * 5_000))

    assert len(caught.value.wrong) < 100


def test_a_declaration_that_is_no_utf8_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "loop.toml").write_bytes(b"[loop]\nname = '\xfc'\n")

    with pytest.raises(DeclarationError) as caught:
        declaration.load(tmp_path)

    assert (caught.value.problems[0].line, caught.value.problems[0].wrong) == (2, "not TOML: byte 15 is not UTF-8")


@pytest.mark.parametrize(("content", "wrong"), [(b"\xff\xfe", "is not UTF-8"), (b"[" * 100_000, "is not JSON")])
def test_a_schema_file_that_no_json_reader_takes(tmp_path: Path, content: bytes, wrong: str) -> None:
    (tmp_path / "payment.avsc").write_bytes(content)

    found = in_folder(tmp_path, 'payment = { schema = "payment.avsc", time = "at" }')

    assert wrong in found[0].wrong


def test_an_empty_declaration_names_every_missing_table() -> None:
    keys = {problem.key for problem in problems("")}

    assert keys == {"loop", "events", "predict", "label", "features", "model"}


EXPRESSIONS = [
    "amount IN (SELECT 1 FROM read_csv('/etc/passwd'))",
    "(SELECT max(x) FROM read_parquet('http://example.org/x.parquet'))",
    "read_csv('/etc/passwd')",
    "read_text('/etc/passwd')",
    "amount FROM read_csv('x')",
    "EXISTS (SELECT 1)",
    "1; COPY x TO '/tmp/x'",
    "ATTACH 'x.db'",
    "load_extension('x')",
    "pg_read_file('/etc/passwd')",
]


@pytest.mark.parametrize("sql", EXPRESSIONS)
def test_no_expression_opens_a_file_or_an_address(sql: str) -> None:
    places = {
        "quality.rules.payment": ('"amount > 0"', sql),
        "label.value": ('"count() > 0"', f"max(CASE WHEN {sql} THEN 1 END) > 0"),
        "features.row.amount": ('"amount"\nhour', sql),
        "features.groups.card.values.sum": ('"sum(amount)"', f"sum({sql})"),
    }
    for key, (old, expression) in places.items():
        new = f'"{expression}"\nhour' if old.endswith("hour") else f'"{expression}"'
        found = problems(RIGHT.replace(old, new, 1))
        assert [problem.key for problem in found] == [key]


SCHEMA_FILES = [
    ("{", "`payment.avsc` is not JSON"),
    ("[]", "must be a record"),
    ('{"type": "enum", "name": "e", "symbols": ["A"]}', "must be a record"),
    ('{"type": "record", "name": "p", "fields": [{"name": "a", "type": "strng"}]}', "unknown Avro type strng"),
    ('{"type": "record", "name": "p", "fields": [{"type": "string"}]}', "not an Avro schema"),
    ('{"type": "record", "name": "p", "fields": [{"name": 7, "type": "string"}]}', "a field's name is 7"),
    ('{"type": "record", "name": "p", "fields": [{"name": "p", "type": ["null", "p"]}]}', "p contains itself"),
    (
        '{"type": "record", "name": "p", "fields": [{"name": "n", "type": {"type": "array", "items": "null"}}]}',
        "an array's items have to take some bytes",
    ),
    (
        '{"type": "record", "name": "p", "fields": [{"name": "t", "type": {"type": "long", "logicalType": []}}]}',
        "not an Avro schema",
    ),
    ('{"type": "record", "name": "p", "fields": []}', "no scalar field"),
]


@pytest.mark.parametrize(("content", "wrong"), SCHEMA_FILES, ids=[row[1] for row in SCHEMA_FILES])
def test_wrong_schema_file(tmp_path: Path, content: str, wrong: str) -> None:
    (tmp_path / "payment.avsc").write_text(content)

    found = in_folder(tmp_path, 'payment = { schema = "payment.avsc", time = "at" }')

    assert wrong in found[0].wrong
    assert (found[0].key, found[0].line) == ("events.payment.schema", 4)


def test_missing_schema_file_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "payments.avsc").write_text("{}")

    found = in_folder(tmp_path, 'payment = { schema = "payment.avsc", time = "at" }')

    assert (found[0].wrong, found[0].right) == ("there is no file `payment.avsc`", "`payments.avsc`")


def test_a_schema_is_never_read_from_outside_the_folder(tmp_path: Path) -> None:
    found = in_folder(tmp_path, 'payment = { schema = "../payment.avsc", time = "at" }')

    assert "not beside the declaration" in found[0].wrong


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="there is no such file"):
        declaration.load(tmp_path / "nowhere")


def in_folder(folder: Path, event: str) -> tuple[Problem, ...]:
    (folder / "loop.toml").write_text(f'[loop]\nname = "x"\n[events]\n{event}\n')
    with pytest.raises(DeclarationError) as caught:
        declaration.load(folder)
    assert caught.value.problems[0].file == str(folder / "loop.toml")
    return tuple(problem for problem in caught.value.problems if problem.key.startswith("events"))
