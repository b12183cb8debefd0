"""Drafts from samples: what is guessed, asked and written; what is written is a right declaration with its events."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from trimtab.loops import declaration, draft, files
from trimtab.loops.draft import Choices, Draft, Question, take_defaults
from trimtab.loops.errors import DraftError
from trimtab.loops.model import Loop

ROWS = 400
START_MS = 1_717_200_000_000
HOUR_MS = 3_600_000


def loans(zone: bool = True) -> pl.DataFrame:
    """Cases with a time, a key, an entity, a category, a number, the label and the time at which it was known."""
    rng = np.random.default_rng(3)
    at = pl.Series(START_MS + np.arange(ROWS) * HOUR_MS).cast(pl.Datetime("ms"))
    known = pl.Series(START_MS + np.arange(ROWS) * HOUR_MS + rng.integers(1, 40, ROWS) * HOUR_MS).cast(
        pl.Datetime("ms")
    )
    written = "%Y-%m-%dT%H:%M:%SZ" if zone else "%Y-%m-%d %H:%M:%S"
    return pl.DataFrame(
        {
            "loan_id": [f"L{n:05d}" for n in range(ROWS)],
            "applied_at": at.dt.strftime(written),
            "branch_id": rng.integers(1, 9, ROWS),
            "purpose": rng.choice(["car", "house", "order"], ROWS),
            "amount": rng.gamma(2, 100, ROWS).round(2),
            "decided_at": known.dt.strftime(written),
            "defaulted": rng.choice(["yes", "no"], ROWS, p=[0.2, 0.8]),
        }
    )


def drafted(folder: Path, frame: pl.DataFrame, choices: Choices, name: str = "loans.csv") -> Draft:
    frame.write_csv(folder / name)
    return draft.draft([folder / name], choices, take_defaults)


def written(made: Draft, folder: Path) -> Loop:
    loop = draft.write(made, folder)
    with files.opened(loop, files.data_folder(folder)) as recorded:
        assert recorded.counts == {event.name: event.rows.height for event in made.outline.events}
    return loop


def test_everything_guessed_from_a_telling_sample(tmp_path: Path) -> None:
    made = drafted(tmp_path, loans(), Choices())

    loop = written(made, tmp_path / "loans")

    assert (loop.name, loop.task, loop.predict.on, loop.predict.key) == ("loans", "binary", "applied", "loan_id")
    assert (loop.events["applied"].time, loop.events["applied"].id) == ("applied_at", "loan_id")
    assert (loop.label.of, loop.label.by, loop.label.value) == ("decided", ("loan_id",), "last(defaulted)")
    assert loop.label.within_ms == 48 * HOUR_MS
    assert loop.events["decided"].time == "decided_at"
    assert dict(loop.features.row) == {
        "purpose": "purpose",
        "amount": "amount",
        "hour": "hour(applied_at)",
        "weekday": "weekday(applied_at)",
    }
    assert loop.features.categorical == ("purpose",)
    assert {group.name: group.by for group in loop.features.groups} == {
        "decided_by_branch_id": ("branch_id",),
        "decided_by_purpose": ("purpose",),
    }
    assert loop.model.estimator.endswith("Classifier")
    assert ("label known at decided_at", "never earlier than the question") in made.notes


def test_the_question_does_not_hold_what_is_known_later(tmp_path: Path) -> None:
    made = drafted(tmp_path, loans(), Choices())
    asks, labels = made.outline.events

    assert list(asks.columns) == ["loan_id", "applied_at", "branch_id", "purpose", "amount"]
    assert list(labels.columns) == ["loan_id", "branch_id", "purpose", "defaulted", "decided_at"]
    assert labels.rows["decided_at"].is_sorted()
    joined = labels.rows.join(asks.rows, on="loan_id")
    assert (joined["decided_at"] > joined["applied_at"]).all()


def test_a_delay_instead_of_a_second_time(tmp_path: Path) -> None:
    frame = loans().drop("decided_at")

    loop = written(drafted(tmp_path, frame, Choices(label_delay="2h")), tmp_path / "out")

    assert (loop.label.of, loop.events["labelled"].time) == ("labelled", "defaulted_known_at")
    assert loop.label.within_ms == 6 * HOUR_MS


def test_scripts_have_to_say_when_the_label_is_known(tmp_path: Path) -> None:
    with pytest.raises(DraftError, match="--label-time or --label-delay"):
        drafted(tmp_path, loans().drop("decided_at"), Choices())


def answers(said: Mapping[str, str]) -> Callable[[Question], str]:
    def ask(question: Question) -> str:
        return said[question.what]

    return ask


def test_a_person_is_asked_for_what_cannot_be_guessed(tmp_path: Path) -> None:
    loans().drop("decided_at").rename({"defaulted": "z"}).write_csv(tmp_path / "loans.csv")
    said = {"the label": "z", "when the label becomes known": "30d"}

    made = draft.draft([tmp_path / "loans.csv"], Choices(), answers(said))

    assert made.outline.label.within_ms == 60 * 24 * HOUR_MS
    assert ("label known 30d after the question", "as you said") in made.notes


def test_an_answer_may_name_a_column(tmp_path: Path) -> None:
    loans().write_csv(tmp_path / "loans.csv")
    said = {"the label": "defaulted", "when the label becomes known": "decided_at"}

    made = draft.draft([tmp_path / "loans.csv"], Choices(), answers(said))

    assert made.outline.label.of == "decided"


LABELS: Sequence[tuple[str, Sequence[object], str, str]] = [
    ("numbers", [1.5, 2.25, 3.5, 0.1] * 100, "regression", "last(result)"),
    ("zero and one", [0, 1, 0, 0] * 100, "binary", "last(result) = 1"),
    ("two words", ["good", "bad", "good", "good"] * 100, "binary", "last(result) = 'bad'"),
    ("two unknown words", ["b", "a", "b", "b"] * 100, "binary", "last(result) = 'a'"),
    ("classes", ["a", "b", "c", "a"] * 100, "multiclass", "last(result)"),
    ("small whole numbers", [1, 2, 3, 4] * 100, "multiclass", "last(result)"),
    ("many whole numbers", list(range(ROWS)), "regression", "last(result)"),
]


@pytest.mark.parametrize(("case", "values", "task", "value"), LABELS, ids=[row[0] for row in LABELS])
def test_tasks(tmp_path: Path, case: str, values: Sequence[object], task: str, value: str) -> None:
    frame = loans().drop("defaulted").with_columns(pl.Series("result", values))

    loop = written(drafted(tmp_path, frame, Choices(label="result", key="loan_id")), tmp_path / "out")

    assert (loop.task, loop.label.value) == (task, value)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_the_same_draft_from_every_format(tmp_path: Path, ending: str) -> None:
    frame = loans()
    path = tmp_path / f"loans{ending}"
    writers: Mapping[str, Callable[[Path], None]] = {
        ".csv": frame.write_csv,
        ".jsonl": frame.write_ndjson,
        ".parquet": frame.write_parquet,
    }
    writers[ending](path)

    loop = written(draft.draft([path], Choices(), take_defaults), tmp_path / "out")

    assert loop.digest == written(drafted(tmp_path, frame, Choices()), tmp_path / "other").digest


def test_times_without_a_zone_are_taken_in_the_one_that_is_named(tmp_path: Path) -> None:
    frame = loans(zone=False)

    in_utc = drafted(tmp_path, frame, Choices())
    in_paris = drafted(tmp_path, frame, Choices(zone="Europe/Paris"))

    shift = in_utc.outline.asks.rows["applied_at"] - in_paris.outline.asks.rows["applied_at"]
    assert (shift.dt.total_hours() == 2).all()
    assert in_paris.row["hour"] == "hour(applied_at, 'Europe/Paris')"
    assert ("`applied_at` is in UTC", "its times carry no offset; --zone names another") in in_utc.notes
    written(in_paris, tmp_path / "out")


def test_rows_without_a_key_are_numbered(tmp_path: Path) -> None:
    loop = written(
        drafted(tmp_path, loans().drop("loan_id").with_columns(pl.lit(1).alias("amount")), Choices()), tmp_path / "out"
    )

    assert (loop.predict.key, loop.label.by) == ("loans_id", ("loans_id",))


def test_names_that_are_no_fields_and_words_of_sql(tmp_path: Path) -> None:
    frame = loans().rename({"amount": "Amount (EUR)", "purpose": "case"}).with_columns(pl.lit(2.5).alias("2nd"))

    loop = written(drafted(tmp_path, frame, Choices()), tmp_path / "out")

    assert loop.features.row["Amount_EUR"] == "Amount_EUR"
    assert loop.features.row["case"] == '"case"'
    assert loop.features.row["_2nd"] == "_2nd"


def test_rows_without_a_label_ask_but_tell_nothing(tmp_path: Path) -> None:
    unknown = pl.when(pl.int_range(pl.len()) >= 300).then(pl.lit("")).otherwise(pl.col("defaulted")).alias("defaulted")

    made = drafted(tmp_path, loans().with_columns(unknown), Choices())

    assert [event.rows.height for event in made.outline.events] == [400, 300]


def test_a_field_that_gives_the_label_away_is_pointed_at(tmp_path: Path) -> None:
    leak = pl.when(pl.col("defaulted") == "yes").then(5).otherwise(1).alias("collection_stage")

    made = drafted(tmp_path, loans().with_columns(leak), Choices(label="defaulted"))

    assert [what for what, _ in made.notes if what.startswith("look at")] == ["look at collection_stage"]


def test_separators_null_words_codes_and_epochs(tmp_path: Path) -> None:
    lines = ["order_id;created_ts;zip;weight;late"]
    lines += [
        f"{n};{1_717_200_000 + n * 3600};0{n % 7}100;{'NA' if n % 9 == 0 else n % 5};{n % 3 == 0}" for n in range(90)
    ]
    (tmp_path / "orders.csv").write_text("\n".join(lines))

    made = draft.draft([tmp_path / "orders.csv"], Choices(label_delay="1d"), take_defaults)
    kinds = {name: column.kind for name, column in made.outline.asks.columns.items()}

    assert kinds == {"order_id": "integer", "created_ts": "time", "zip": "text", "weight": "integer"}
    assert made.outline.asks.columns["weight"].nulls == 10
    assert made.outline.asks.name == "orders"
    written(made, tmp_path / "out")


def several(folder: Path) -> list[Path]:
    loans().select("loan_id", "applied_at", "branch_id", "amount").write_csv(folder / "application.csv")
    loans().filter(pl.col("defaulted") == "yes").select("loan_id", "decided_at").write_csv(folder / "collection.csv")
    days = pl.DataFrame({"published_at": loans()["applied_at"].gather_every(24)})
    rates = days.with_columns(pl.lit(3).alias("branch_id"), pl.int_range(pl.len()).cast(pl.Float64).alias("rate") + 0.5)
    rates.write_csv(folder / "branch.csv")
    return [folder / name for name in ("application.csv", "collection.csv", "branch.csv")]


def test_several_files_are_several_events(tmp_path: Path) -> None:
    choices = Choices(name="credit", label="collection", asks="application", label_delay="60d")

    loop = written(draft.draft(several(tmp_path), choices, take_defaults), tmp_path / "out")

    assert (loop.name, loop.task, list(loop.events)) == ("credit", "binary", ["application", "collection", "branch"])
    assert (loop.label.of, loop.label.by, loop.label.value) == ("collection", ("loan_id",), "count() > 0")
    assert (loop.label.settle, loop.label.within_ms) == ("close", 60 * 24 * HOUR_MS)
    assert loop.features.latest[0].values == ("rate",)
    assert loop.features.latest[0].by == ("branch_id",)


def test_the_label_may_be_a_column_of_another_file(tmp_path: Path) -> None:
    paths = several(tmp_path)
    loans().select("loan_id", "decided_at", "defaulted").write_csv(tmp_path / "collection.csv")
    choices = Choices(label="collection.defaulted", label_delay="5d", asks="application")

    loop = written(draft.draft(paths, choices, take_defaults), tmp_path / "out")

    assert (loop.label.value, loop.label.settle) == ("last(defaulted)", "first")


WRONG: Mapping[str, tuple[Choices, str, str]] = {
    "time": (Choices(time="aplied_at"), "no column `aplied_at`", "`applied_at`"),
    "no time": (Choices(time="amount"), "not a time in every row", "applied_at"),
    "label": (Choices(label="defalted"), "no column `defalted`", "`defaulted`"),
    "key": (Choices(key="branch_id"), "does not name a row", "without repeats"),
    "label time": (Choices(label_time="amount"), "is number, not a time", "--label-delay"),
    "label before": (Choices(time="decided_at", label_time="applied_at"), "before `decided_at`", "never before"),
    "delay": (Choices(label_delay="2 hours"), "'2 hours' is not a duration", '"90s"'),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_choices(tmp_path: Path, case: str) -> None:
    choices, wrong, right = WRONG[case]

    with pytest.raises(DraftError) as caught:
        drafted(tmp_path, loans(), choices)

    assert wrong in caught.value.wrong
    assert right in caught.value.right


SAMPLES: Mapping[str, tuple[str, str, str]] = {
    "empty": ("loans.csv", "", "cannot be read"),
    "header only": ("loans.csv", "a,b\n", "has no rows"),
    "no time": ("loans.csv", "a,b\n1,2\n", "no column that is a time"),
    "one class": ("loans.csv", "at,label\n2024-05-31T12:00:00Z,1\n2024-05-31T13:00:00Z,1\n", "has 1 value"),
    "no JSON": ("loans.jsonl", "{a", "cannot be read"),
    "no Parquet": ("loans.parquet", "PAR", "cannot be read"),
    "kind": ("loans.xlsx", "x", "no known kind of file"),
}


@pytest.mark.parametrize("case", SAMPLES)
def test_samples_that_are_none(tmp_path: Path, case: str) -> None:
    name, content, wrong = SAMPLES[case]
    (tmp_path / name).write_text(content)

    with pytest.raises(DraftError, match=wrong):
        draft.draft([tmp_path / name], Choices(), take_defaults)


def test_a_loop_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    made = drafted(tmp_path, loans(), Choices())
    draft.write(made, tmp_path / "out")
    before = (tmp_path / "out" / declaration.FILE).read_text()

    with pytest.raises(DraftError, match="is there already"):
        draft.write(drafted(tmp_path, loans(), Choices(name="other")), tmp_path / "out")

    assert (tmp_path / "out" / declaration.FILE).read_text() == before
