"""Settings of a Kafka of one's own that break what Trimtab promises."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from trimtab.cli.topics import UnreachableError
from trimtab.runtime.kafka.connection import Connection

SESSION_MS = 6_000
TRANSACTION_MS = 10_000
SMALLEST_MESSAGE = 1_048_588
FEWEST_COPIES = 3
Settings = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Broken:
    """A setting, what it breaks, and what would be right."""

    setting: str
    value: str
    breaks: str
    right: str

    def __str__(self) -> str:
        return f"{self.setting} = {self.value}: {self.breaks}; right: {self.right}"


@dataclass(frozen=True, slots=True)
class _Rule:
    """`holds`: of the value, whether it keeps the promise. `brokers`: from how many brokers on it counts."""

    setting: str
    holds: Callable[[str], bool]
    breaks: str
    right: str
    brokers: int = 1


def _at_least(least: int) -> Callable[[str], bool]:
    return lambda value: int(value) >= least


def _at_most(most: int) -> Callable[[str], bool]:
    return lambda value: int(value) <= most


def _is(wanted: str) -> Callable[[str], bool]:
    return lambda value: value.lower() == wanted


RULES: Sequence[_Rule] = (
    _Rule("unclean.leader.election.enable", _is("false"), "acknowledged events can be lost", "false"),
    _Rule("log.cleaner.enable", _is("true"), "tables grow without end, restarts take ever longer", "true"),
    _Rule("auto.create.topics.enable", _is("false"), "a mistyped topic is made, with other settings", "false"),
    _Rule("transaction.max.timeout.ms", _at_least(TRANSACTION_MS), "no stage can begin a transaction", "10000 or more"),
    _Rule("group.min.session.timeout.ms", _at_most(SESSION_MS), "no stage can join its group", "6000 or less"),
    _Rule("group.max.session.timeout.ms", _at_least(SESSION_MS), "no stage can join its group", "6000 or more"),
    _Rule(
        "message.max.bytes",
        _at_least(SMALLEST_MESSAGE),
        "large batches are refused, the stage stops",
        "1048588 or more",
    ),
    _Rule("default.replication.factor", _at_least(FEWEST_COPIES), "one lost disk loses events", "3", FEWEST_COPIES),
    _Rule(
        "min.insync.replicas", _at_least(2), "events acknowledged by one broker can be lost with it", "2", FEWEST_COPIES
    ),
    _Rule(
        "transaction.state.log.replication.factor",
        _at_least(FEWEST_COPIES),
        "one lost disk loses which transactions are committed",
        "3",
        FEWEST_COPIES,
    ),
    _Rule(
        "transaction.state.log.min.isr",
        _at_least(2),
        "a transaction's end acknowledged by one broker can be lost with it",
        "2",
        FEWEST_COPIES,
    ),
)


def broken(settings: Settings, brokers: int) -> Iterator[Broken]:
    """What breaks a promise in a broker's settings. A setting that the broker does not tell is passed over."""
    for rule in RULES:
        value = settings.get(rule.setting)
        if value and brokers >= rule.brokers and not rule.holds(value):
            yield Broken(rule.setting, value, rule.breaks, rule.right)
    if brokers < FEWEST_COPIES:
        count = f"{brokers} broker{'s' if brokers > 1 else ''}"
        yield Broken(
            "brokers", str(brokers), f"with {count}, what one disk loses is lost", "3 or more, each with a copy"
        )


async def read_settings(connection: Connection) -> Mapping[int, Settings]:
    """The settings of each broker by its number. Raises UnreachableError."""
    client = AIOKafkaAdminClient(**connection.arguments("trimtab-cli"))
    try:
        await client.start()
        brokers = [broker["node_id"] for broker in (await client.describe_cluster())["brokers"]]
        resources = [ConfigResource(ConfigResourceType.BROKER, str(number)) for number in brokers]
        found = await client.describe_configs(resources)
    except KafkaError as error:
        raise UnreachableError(connection.bootstrap_servers, str(error)) from error
    finally:
        await client.close()
    answers = (resource for response in found for resource in response.to_object()["resources"])
    return {int(answer["resource_name"]): _values(answer) for answer in answers}


def _values(answer: Mapping[str, list[Mapping[str, str | None]]]) -> Settings:
    entries = answer["config_entries"]
    return {str(entry["config_names"]): str(entry["config_value"] or "") for entry in entries}
