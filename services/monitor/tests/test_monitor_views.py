"""What the process's views make of records, good and bad; how the service is put together."""

from trimtab.contracts import control, topics
from trimtab.contracts.codec import fingerprint
from trimtab.contracts.control import QualityRestored, QualityViolated
from trimtab.monitor.adapters import ModelsView, QualityView, SchemasView
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.core.stretches import HeldStretches
from trimtab.monitor.settings import Settings
from trimtab.monitor.wiring import build
from trimtab.runtime.records import Record
from trimtab.testing.declarations import declared, offers
from trimtab.testing.models import DIGEST, trained

LOOP = offers()


def record(topic: str, value: bytes | None, key: bytes = b"offers") -> Record:
    return Record(topic, 0, 0, key, value)


def violated(since: int, rule: str = "missing", subject: str = "place") -> QualityViolated:
    return QualityViolated.model_validate(
        {
            "loop": "offers",
            "at": since + 5,
            "rule": rule,
            "subject": subject,
            "share": 0.5,
            "limit": 0.1,
            "since": since,
        }
    )


def restored(since: int, at: int, rule: str = "missing", subject: str = "place") -> QualityRestored:
    return QualityRestored.model_validate(
        {"loop": "offers", "at": at, "rule": rule, "subject": subject, "share": 0.0, "limit": 0.1, "since": since}
    )


def test_models_of_the_loop_are_known_by_digest_and_told_to_the_watch() -> None:
    plan = plan_of(LOOP)
    watch = Watch(plan)
    view = ModelsView(plan, watch)
    view.apply(
        [
            record(view.topic, control.encode(trained("r"))),
            record(view.topic, control.encode(trained("r", digest="b" * 64, loop="other")), b"other"),
            record(view.topic, b"{}"),
            record(view.topic, None),
        ]
    )
    assert view.known(DIGEST) is not None
    assert watch.knows(DIGEST)
    assert view.known("b" * 64) is None


def test_holds_are_stretches_whichever_topic_is_read_first() -> None:
    held = HeldStretches()
    begun = QualityView(topics.QUALITY_VIOLATED, "offers", held)
    ended = QualityView(topics.QUALITY_RESTORED, "offers", held)
    ended.apply([record(ended.topic, control.encode(restored(100, 200)))])
    assert held.spans() == ()
    begun.apply([record(begun.topic, control.encode(violated(100))), record(begun.topic, b"{}")])
    assert held.spans() == ((100, 200),)
    begun.apply([record(begun.topic, control.encode(violated(150, "rejected", "offer")))])
    assert held.spans() == ((100, 2**62),), "holds that touch are one stretch"
    ended.apply([record(ended.topic, control.encode(restored(150, 300, "rejected", "offer")))])
    begun.apply(
        [record(begun.topic, control.encode(violated(900))), record(begun.topic, control.encode(violated(1)), b"x")]
    )
    assert held.spans() == ((100, 300), (900, 2**62))


def test_schemas_are_known_once_they_are_published() -> None:
    view = SchemasView()
    schema = {"type": "record", "name": "Row", "fields": []}
    mark, other = fingerprint(schema), b"\0" * 8
    event = control.PublishedSchema(fingerprint=mark.hex(), schema_=schema, by="test")
    wrong = control.PublishedSchema(fingerprint=other.hex(), schema_={"type": "record"}, by="a hand")
    assert view.get(mark) is None
    values = [control.encode(event), b"{}", None, control.encode(wrong)]
    refused = view.apply([record(view.topic, value) for value in values])
    assert view.get(mark) == schema
    assert view.get(other) is None, "what is no schema would stop whoever decodes by it"
    assert len(refused) == 2


def test_the_service_has_three_stages_a_loop() -> None:
    service = build(Settings())
    assert service.work is not None
    work = service.work(declared(LOOP))
    assert work is not None
    assert {stage.group: stage.partitions for stage in work.stages} == {
        "monitor.route.offers": 2,
        "monitor.join.offers": 2,
        "monitor.detect.offers": 1,
    }
