"""Settings of a Kafka of one's own: what is reported, and that a good one is left in peace."""

import pytest
from trimtab.cli.findings import BROKER, cluster_findings, of_broker, of_topic
from trimtab.cli.topics import topic_admin
from trimtab.contracts import topics
from trimtab.contracts.specs import TopicSpec
from trimtab.runtime.kafka.connection import Connection

GOOD = {
    "auto.create.topics.enable": "false",
    "unclean.leader.election.enable": "false",
    "log.cleaner.enable": "true",
    "group.min.session.timeout.ms": "6000",
    "group.max.session.timeout.ms": "1800000",
    "transaction.max.timeout.ms": "900000",
    "message.max.bytes": "1048588",
    "transactional.id.expiration.ms": "604800000",
    "default.replication.factor": "3",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "min.insync.replicas": "2",
}


def test_a_good_cluster_is_left_in_peace() -> None:
    assert GOOD.keys() == {rule.setting for rule in BROKER}
    assert of_broker("broker 1", GOOD) == []


@pytest.mark.parametrize(
    ("setting", "value", "breaks"),
    [
        ("auto.create.topics.enable", "true", True),
        ("unclean.leader.election.enable", "true", True),
        ("log.cleaner.enable", "false", True),
        ("group.min.session.timeout.ms", "10000", True),
        ("group.max.session.timeout.ms", "5000", True),
        ("transaction.max.timeout.ms", "5000", True),
        ("message.max.bytes", "65536", True),
        ("transactional.id.expiration.ms", "60000", True),
        ("default.replication.factor", "1", False),
        ("offsets.topic.replication.factor", "1", False),
        ("transaction.state.log.replication.factor", "1", False),
        ("transaction.state.log.min.isr", "1", False),
        ("min.insync.replicas", "1", False),
    ],
)
def test_a_setting_that_breaks_a_promise_is_named_with_its_remedy(setting: str, value: str, breaks: bool) -> None:
    [finding] = of_broker("broker 1", {**GOOD, setting: value})
    assert (finding.setting, finding.value, finding.breaks) == (setting, value, breaks)
    assert setting in str(finding)
    assert finding.wanted in str(finding)


@pytest.mark.kafka
async def test_the_embedded_broker_only_lacks_copies(broker: Connection) -> None:
    everywhere = await cluster_findings(broker)  # also in topics that other tests have made there
    findings = [finding for finding in everywhere if finding.where.startswith("broker ")]
    assert not [finding for finding in findings if finding.breaks]
    assert {finding.setting for finding in findings} == {
        "default.replication.factor",
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
        "min.insync.replicas",
    }


@pytest.mark.kafka
async def test_a_topic_that_forgets_events_is_found(broker: Connection) -> None:
    [good] = [spec for spec in topics.of_loop("forgetful", ["ask"], 1) if spec.template == "predictions"]
    forgets = {**good.config, "retention.ms": "1000", "max.message.bytes": "1000"}
    async with topic_admin(broker) as admin:
        await admin.ensure([TopicSpec(good.name, 1, forgets, good.cleanup, good.template)])
    found = {finding.setting for finding in await cluster_findings(broker, [good]) if finding.breaks}
    assert found == {"retention.ms", "max.message.bytes"}
    assert of_topic(good, good.config) == []
