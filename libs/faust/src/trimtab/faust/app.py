"""A Faust app with the settings that worked, and a consumer that sees committed records only."""

import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiokafka
import faust
from faust.transport.drivers import aiokafka as driver
from yarl import URL

from trimtab.runtime.kafka.connection import Connection

COMMIT_INTERVAL_S = 1.0


class CommittedThread(driver.AIOKafkaConsumerThread):
    """Reads committed records only. (Faust does so only with its own exactly-once mode, which loses updates.)"""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer


class CommittedConsumer(driver.Consumer):
    """A consumer on such a thread."""

    def _new_consumer_thread(self) -> CommittedThread:
        return CommittedThread(self, loop=self.loop, beacon=self.beacon)


class CommittedTransport(driver.Transport):
    """A transport with such a consumer."""

    Consumer = CommittedConsumer


def create_app(group: str, connection: Connection, folder: Path, replica: int) -> faust.App:
    """An app that is a consumer group of its own: `group`; `replica` is this process's slot in it.

    At least once; no leader topic, no web server, no topics made, keys and values as bytes. A process killed and
    started again under its slot goes on without a rebalance.
    """
    place = folder / "processors" / group
    place.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        group,
        broker=_urls(connection),
        broker_credentials=_credentials(connection),
        broker_commit_interval=COMMIT_INTERVAL_S,
        broker_session_timeout=6.0,
        broker_heartbeat_interval=2.0,
        consumer_group_instance_id=f"{group}-{replica}",
        consumer_auto_offset_reset="earliest",
        datadir=str(place),
        key_serializer="raw",
        value_serializer="raw",
        processing_guarantee="at_least_once",
        producer_acks=-1,
        producer_linger=0.005,
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )
    app.transport = CommittedTransport(app.conf.broker, app, app.loop)
    return app


def _urls(connection: Connection) -> list[URL]:
    addresses: Iterable[str] = connection.bootstrap_servers.split(",")
    return [URL(f"kafka://{address.strip()}") for address in addresses]


def _credentials(connection: Connection) -> Any:
    context = ssl.create_default_context(cafile=connection.ca_file) if "SSL" in connection.security_protocol else None
    if connection.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=connection.username,
            password=connection.password,
            mechanism=connection.sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)
