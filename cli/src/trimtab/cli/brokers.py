"""Of how many brokers the embedded Kafka of a folder consists: one, or three of which any one may be away.

What stands in the folder says it: the log of a lone broker is in `kafka/`, those of three are in `kafka-0/` to
`kafka-2/`.
"""

from collections.abc import Sequence
from pathlib import Path

from trimtab.cli.broker import EmbeddedBroker
from trimtab.cli.errors import ClusterError
from trimtab.cli.jars.cache import JarCache

ALONE, SEVERAL = 1, 3


class BadBrokersError(ClusterError):
    """`--brokers` was neither one nor three."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"--brokers {count}: write {ALONE}, or {SEVERAL}: two are no more than one, for both must agree"
        )


class OtherBrokersError(ClusterError):
    """The folder's log is that of another number of brokers."""

    def __init__(self, folder: Path, found: int, asked: int) -> None:
        super().__init__(
            f"the log in {folder} is of {found} broker(s) and does not become one of {asked}: leave out --brokers to "
            f"go on with it, or begin another with TRIMTAB_DATA_DIR set to a new folder and replay your events there"
        )


class OwnKafkaError(ClusterError):
    """`--brokers` beside a Kafka of one's own."""

    def __init__(self) -> None:
        super().__init__(
            "--brokers is about the embedded Kafka, and TRIMTAB_KAFKA__BOOTSTRAP_SERVERS names yours: leave one out"
        )


def broker_count(folder: Path, asked: int | None) -> int:
    """How many the folder has; a new one gets as many as were asked for. Raises BadBrokersError, OtherBrokersError."""
    if asked not in (None, ALONE, SEVERAL):
        raise BadBrokersError(asked)
    found = found_brokers(folder)
    if found is not None and asked not in (None, found):
        raise OtherBrokersError(folder, found, asked)
    return found or asked or ALONE


def found_brokers(folder: Path) -> int | None:
    """How many the folder's log was begun with; None: there is no log yet."""
    if (folder / "kafka").exists():
        return ALONE
    return SEVERAL if any((folder / f"kafka-{number}").exists() for number in range(SEVERAL)) else None


def brokers_of(folder: Path, cache: JarCache, count: int, flags: Sequence[str] | None = None) -> list[EmbeddedBroker]:
    """The brokers of a folder; prepare them together."""
    if count == ALONE:
        return [EmbeddedBroker(folder, cache, flags)]
    return [EmbeddedBroker(folder, cache, flags, number) for number in range(count)]
