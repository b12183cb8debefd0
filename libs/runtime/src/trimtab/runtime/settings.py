"""What every service takes from the environment. Each service's own settings extend `RuntimeSettings`."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from trimtab.runtime.kafka.connection import Connection, Mechanism, Protocol


class Part(BaseModel):
    """A group of settings: `TRIMTAB_<GROUP>__<NAME>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Part):
    """The log. `bootstrap_servers`: addresses host:port, separated by commas."""

    bootstrap_servers: str = "127.0.0.1:9092"
    security_protocol: Protocol = "PLAINTEXT"
    sasl_mechanism: Mechanism = "PLAIN"
    username: str | None = None
    password: SecretStr | None = None
    ca_file: str | None = None

    def connection(self) -> Connection:
        """How to reach it."""
        return Connection(
            bootstrap_servers=self.bootstrap_servers,
            security_protocol=self.security_protocol,
            sasl_mechanism=self.sasl_mechanism,
            username=self.username,
            password=None if self.password is None else self.password.get_secret_value(),
            ca_file=self.ca_file,
        )


class HttpSettings(Part):
    """The service's HTTP. `port` 0: a free one, which is written to `data_dir`/run/<service>-<replica>.json."""

    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65_535)


class EndpointSettings(Part):
    """Where spans go; None: nowhere."""

    endpoint: str | None = None


class RuntimeSettings(BaseSettings):
    """`replica`: this process's slot among the service's; a process started again under its slot gets its tasks back
    at once. `data_dir`: where the service may keep files. `otlp`: OpenTelemetry over HTTP (…/v1/traces); `zipkin`:
    Zipkin's JSON (…/api/v2/spans).
    """

    model_config = SettingsConfigDict(env_prefix="TRIMTAB_", env_nested_delimiter="__", frozen=True, extra="forbid")

    kafka: KafkaSettings = KafkaSettings()
    http: HttpSettings = HttpSettings()
    data_dir: Path = Path(".trimtab")
    replica: int = Field(0, ge=0)
    otlp: EndpointSettings = EndpointSettings()
    zipkin: EndpointSettings = EndpointSettings()
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class StoreSettings(Part):
    """Where blobs are kept, for the services that keep some: file:///… or s3://bucket/prefix."""

    url: str = ""


class SigningSettings(Part):
    """PEM files: the key a service signs with, the public keys it trusts. Only those that a service uses are read."""

    private_key_file: Path = Path()
    public_key_file: Path = Path()
