"""Settings of a Kafka of one's own that break, or weaken, what Trimtab promises."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aiokafka.admin.config_resource import ConfigResourceType

from trimtab.cli.topics import topic_admin
from trimtab.contracts import topics
from trimtab.contracts.specs import TopicSpec
from trimtab.runtime.kafka.connection import Connection

SESSION_MS = 6_000
TRANSACTION_MS = 10_000
DAY_MS = 86_400_000
BATCH_BYTES = 1_000_000
COPIES = 3

Config = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """One setting. `where`: "broker 1" or a topic. `breaks`: a promise does not hold; otherwise it holds less well."""

    where: str
    setting: str
    value: str
    wanted: str
    why: str
    breaks: bool

    def __str__(self) -> str:
        verb = "breaks a promise" if self.breaks else "weakens a promise"
        return f"{self.where}: {self.setting} = {self.value} {verb}: {self.why}; should be {self.wanted}"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a setting should be. `holds` gets its value."""

    setting: str
    holds: Callable[[str], bool]
    wanted: str
    why: str
    breaks: bool = True


def at_least(number: int) -> Callable[[str], bool]:
    """A number not below this one."""
    return lambda value: int(value) >= number


def at_most(number: int) -> Callable[[str], bool]:
    """A number not above this one."""
    return lambda value: int(value) <= number


def exactly(wanted: str) -> Callable[[str], bool]:
    """This text."""
    return lambda value: value == wanted


BROKER: Sequence[Rule] = (
    Rule("auto.create.topics.enable", exactly("false"), "false", "a mistyped topic is made, with the wrong settings"),
    Rule("unclean.leader.election.enable", exactly("false"), "false", "acknowledged records can be lost"),
    Rule("log.cleaner.enable", exactly("true"), "true", "changelogs grow for ever, and restarts with them"),
    Rule("group.min.session.timeout.ms", at_most(SESSION_MS), f"at most {SESSION_MS}", "no stage can join its group"),
    Rule("group.max.session.timeout.ms", at_least(SESSION_MS), f"at least {SESSION_MS}", "no stage can join its group"),
    Rule("transaction.max.timeout.ms", at_least(TRANSACTION_MS), f"at least {TRANSACTION_MS}", "no task can start"),
    Rule("message.max.bytes", at_least(BATCH_BYTES), f"at least {BATCH_BYTES}", "batches of predictions are refused"),
    Rule(
        "transactional.id.expiration.ms",
        at_least(DAY_MS),
        f"at least {DAY_MS}",
        "a task that stood still for so long is no longer protected from its former owner",
    ),
    Rule("default.replication.factor", at_least(COPIES), f"{COPIES}", "a lost broker loses what it held alone", False),
    Rule("offsets.topic.replication.factor", at_least(COPIES), f"{COPIES}", "a lost broker stops groups", False),
    Rule("transaction.state.log.replication.factor", at_least(COPIES), f"{COPIES}", "a lost broker stops tasks", False),
    Rule("transaction.state.log.min.isr", at_least(2), "2", "the state of a transaction can be lost", False),
    Rule("min.insync.replicas", at_least(2), "2", "acknowledged records are on one broker only", False),
)

CHECKED = ("cleanup.policy", "message.timestamp.type", "retention.ms")
"""Settings of a topic that its contract gives."""
REASONS: Mapping[str, str] = {
    "cleanup.policy": "state is lost, or grows for ever",
    "message.timestamp.type": "records stamped with old event times fall to retention at once",
    "retention.ms": "events are gone before they are used; state can no longer be rebuilt from the log",
}


def of_broker(name: str, config: Config) -> list[Finding]:
    """What is wrong with a broker's settings; those that it does not tell are passed over."""
    return [
        Finding(name, rule.setting, config[rule.setting], rule.wanted, rule.why, rule.breaks)
        for rule in BROKER
        if rule.setting in config and not rule.holds(config[rule.setting])
    ]


def of_topic(spec: TopicSpec, config: Config) -> list[Finding]:
    """Where a topic's settings are not those of its contract."""
    wrong = [key for key in CHECKED if key in spec.config and config.get(key, spec.config[key]) != spec.config[key]]
    found = [Finding(spec.name, key, config[key], spec.config[key], REASONS[key], True) for key in wrong]
    size = Rule("max.message.bytes", at_least(BATCH_BYTES), f"at least {BATCH_BYTES}", "batches are refused")
    if not size.holds(config.get(size.setting, str(BATCH_BYTES))):
        found.append(Finding(spec.name, size.setting, config[size.setting], size.wanted, size.why, True))
    return found


async def cluster_findings(connection: Connection, specs: Sequence[TopicSpec] | None = None) -> list[Finding]:
    """Everything that stands in the way of the promises: of every broker, and of the topics that exist already.

    `specs`: the topics that matter, the control topics by default. Raises UnreachableError.
    """
    wanted = {spec.name: spec for spec in (topics.control() if specs is None else specs)}
    async with topic_admin(connection) as admin:
        there = [topic.name for topic in await admin.show(list(wanted))]
        brokers = await admin.configs(ConfigResourceType.BROKER, await admin.brokers())
        found = await admin.configs(ConfigResourceType.TOPIC, there)
    problems = [finding for name, config in brokers.items() for finding in of_broker(f"broker {name}", config)]
    return problems + [finding for name, config in found.items() for finding in of_topic(wanted[name], config)]
