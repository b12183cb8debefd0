"""The reference of the format names every key, with the values that are its defaults."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from trimtab.loops import declaration
from trimtab.loops.declaration.reader import LATER
from trimtab.loops.errors import DeclarationError
from trimtab.loops.model import Loop

FILE = Path(__file__).parents[3] / "docs" / "loop-reference.toml"
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


def record(name: str, **types: Any) -> Mapping[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": key, "type": types[key]} for key in types]}


SCHEMAS = {
    "payment": record(
        "payment",
        event_id="string",
        payment_id="string",
        paid_at="string",
        card="string",
        merchant_id="string",
        amount="double",
        mcc="string",
        country="string",
    ),
    "chargeback": record("chargeback", event_id="string", payment_id="string", booked_at=MILLIS),
    "merchant": record("merchant", merchant_id="string", valid_from=MILLIS, risk_class="string", age_days="int"),
}


def reference(text: str | None = None) -> Loop:
    return declaration.parse(text or FILE.read_text("utf-8"), SCHEMAS, str(FILE))


def test_the_reference_is_a_right_declaration() -> None:
    loop = reference()

    assert loop.name == "card_fraud"
    assert "card_shops_7d_ago_7d" in loop.features.names
    assert "merchant_risk_class" in loop.features.names


TABLES = [
    "[loop]",
    "[quality]",
    "[predict]",
    "[label]",
    "[features]",
    "[features.groups.card]",
    "[features.latest.merchant]",
    "[model]",
    "[train]",
    "[gate]",
    "[drift]",
    "[retrain]",
]


@pytest.mark.parametrize("table", TABLES)
def test_the_reference_names_every_key_of_a_table(table: str) -> None:
    text = FILE.read_text("utf-8")
    start = text.index(f"{table} ") if f"{table} " in text else text.index(f"{table}\n")
    own = re.split(r"\n\[", text[start + 1 :])[0]

    for key in known_keys(text.replace(table, f"{table}\nzzzzzz = 1\n#", 1)):
        if key not in LATER.get(table.strip("[]"), ()) and key not in ("row", "groups", "latest", "values"):
            assert re.search(rf"^{key} = ", own, re.MULTILINE), f"{table} {key}"


def test_the_reference_names_every_key_of_an_event() -> None:
    text = FILE.read_text("utf-8")

    keys = known_keys(text.replace('{ schema = "payment.avsc"', '{ zzzzzz = 1, schema = "payment.avsc"'))

    assert all(re.search(rf"^# {key} ", text, re.MULTILINE) for key in keys)


def test_the_reference_says_what_is_not_yet_supported() -> None:
    last = FILE.read_text("utf-8").split("# Part of the format but not yet supported")[1]

    for table, keys in LATER.items():
        for key in keys:
            assert (f"{table}.{key}" if table else f"[{key}]") in last.replace("\n# ", " ")


def known_keys(text: str) -> list[str]:
    """All keys that a table knows, as the error about an unknown one lists them."""
    with pytest.raises(DeclarationError) as caught:
        reference(text)
    (problem,) = caught.value.problems
    assert "zzzzzz" in problem.wrong
    return problem.right.removeprefix("one of ").split(", ")


def test_what_the_reference_calls_a_default_is_one() -> None:
    shown = reference()
    text = FILE.read_text("utf-8")
    told = [
        line
        for line in text.splitlines()
        if re.search(r"[dD]efault:? \"|[dD]efault [\d\[]|as here|is the default", line)
    ]
    smaller = text
    for line in told:
        smaller = smaller.replace(line, "", 1)
    smaller = smaller.replace('lateness = "10m"', "")

    plain = reference(smaller)

    assert len(told) > 15
    assert plain.max_ahead_ms == shown.max_ahead_ms
    assert (plain.max_gap_ms, plain.catch_up_ms, plain.clock, plain.partitions) == (
        shown.max_gap_ms,
        shown.catch_up_ms,
        shown.clock,
        shown.partitions,
    )
    assert plain.drift == shown.drift
    assert (plain.gate.holdout_ms, plain.gate.rule, plain.gate.margin, plain.gate.block_ms, plain.gate.watch_ms) == (
        shown.gate.holdout_ms,
        shown.gate.rule,
        shown.gate.margin,
        shown.gate.block_ms,
        shown.gate.watch_ms,
    )
    assert (plain.retrain.on, plain.retrain.grown, plain.retrain.cooldown_ms, plain.retrain.budget) == (
        shown.retrain.on,
        shown.retrain.grown,
        shown.retrain.cooldown_ms,
        shown.retrain.budget,
    )
