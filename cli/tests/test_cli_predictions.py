"""`trimtab predictions`: what is shown, and what is passed over."""

import io
import json

from rich.console import Console
from trimtab.cli.predictions import learn, plain, read, table
from trimtab.contracts import control, topics
from trimtab.contracts.codec import AvroCodec, Reader
from trimtab.contracts.prediction import prediction_schema
from trimtab.runtime.records import Record
from trimtab.runtime.schemas import published
from trimtab.testing.history import DAY_MS

SCHEMA = prediction_schema("shop", ["price"], categorical=[])
SAID = {
    "key": "k1",
    "at_ms": DAY_MS,
    "features": {"price": 2.5},
    "ages_ms": {},
    "features_as_of_ms": DAY_MS,
    "features_digest": "f" * 64,
    "score": 0.25,
    "class": None,
    "probabilities": [],
    "arm": "champion",
    "version": 3,
    "model_digest": "d" * 64,
    "deployment": 4,
    "shadows": [],
    "origin": "stream",
    "declaration_version": 1,
    "by": ["k1"],
}
UNSCORED = {**SAID, "key": "k0", "score": None, "version": None, "model_digest": None, "arm": "none", "origin": "http"}


def record(topic: str, value: bytes | None) -> Record:
    return Record(topic, 0, 0, b"k", value)


def knowing() -> Reader:
    reader = Reader({})
    (schema,) = published([SCHEMA], by="test", at_ms=0)
    learn(reader, [record(topics.SCHEMAS, b"junk"), record(topics.SCHEMAS, schema.value)])
    assert control.decode_as(control.PublishedSchema, schema.value or b"")
    return reader


def test_predictions_are_read_by_the_schemas_that_were_published() -> None:
    codec = AvroCodec(SCHEMA)
    records = [record("shop.predictions", value) for value in (codec.encode(UNSCORED), None, codec.encode(SAID))]
    found = read(knowing(), records)
    assert [one["key"] for one in found] == ["k0", "k1"]
    page = io.StringIO()
    Console(file=page, width=100).print(table(found))
    assert [line.split() for line in page.getvalue().splitlines()[1:]] == [
        ["k0", "1970-01-02T00:00:00.000Z", "nothing", "yet", "none", "http"],
        ["k1", "1970-01-02T00:00:00.000Z", "0.25", "version", "3", "stream"],
    ]


def test_scripts_get_all_of_it_with_times_as_text() -> None:
    told = json.loads(json.dumps(plain(SAID)))
    assert (told["key"], told["at"], told["features"]) == ("k1", "1970-01-02T00:00:00.000Z", {"price": 2.5})
    assert told["features_as_of"] == "1970-01-02T00:00:00.000Z"
    assert not any(name.endswith("as_of_ms") or name == "at_ms" for name in told)
