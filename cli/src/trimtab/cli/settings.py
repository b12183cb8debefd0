"""What the command and the local cluster take from the environment."""

from pathlib import Path

from platformdirs import user_cache_path
from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from trimtab.runtime.kafka.connection import Connection, Mechanism, Protocol


class KafkaSettings(BaseModel, frozen=True):
    """`bootstrap_servers`: a Kafka of one's own; left out, `trimtab up` starts the embedded one."""

    bootstrap_servers: str | None = None
    security_protocol: Protocol = "PLAINTEXT"
    sasl_mechanism: Mechanism = "PLAIN"
    username: str | None = None
    password: SecretStr | None = None
    ca_file: str | None = None

    def connection(self) -> Connection | None:
        """How to reach one's own Kafka; None: there is none."""
        if self.bootstrap_servers is None:
            return None
        return Connection(
            self.bootstrap_servers,
            self.security_protocol,
            self.sasl_mechanism,
            self.username,
            self.password.get_secret_value() if self.password else None,
            self.ca_file,
        )


class ClusterSettings(BaseSettings):
    """Settings of the `trimtab` command; the same environment variables reach the services it starts.

    `data_dir`: everything of the local cluster (Kafka's log, databases, models, logs, keys). `cache_dir`: the jars,
    shared by all clusters of a user.
    """

    model_config = SettingsConfigDict(env_prefix="TRIMTAB_", env_nested_delimiter="__", frozen=True, extra="ignore")

    data_dir: Path = Path(".trimtab")
    cache_dir: Path = Field(default_factory=lambda: user_cache_path("trimtab"))
    kafka: KafkaSettings = KafkaSettings()
