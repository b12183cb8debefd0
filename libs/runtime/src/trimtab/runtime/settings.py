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
    """The log."""

    bootstrap_servers: str = Field("127.0.0.1:9092", description="Kafka's addresses host:port, separated by commas")
    security_protocol: Protocol = Field("PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
    sasl_mechanism: Mechanism = Field("PLAIN", description="how to log in, with one of the SASL protocols")
    username: str | None = Field(None, description="to log in with")
    password: SecretStr | None = Field(None, description="to log in with")
    ca_file: str | None = Field(None, description="PEM file of the authority that signed the brokers' certificates")

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
    """The service's HTTP."""

    host: str = Field("127.0.0.1", description="address to listen at")
    port: int = Field(
        0, ge=0, le=65_535, description="0: a free one, told in TRIMTAB_DATA_DIR/run/<service>-<replica>.json"
    )
    max_body_bytes: int = Field(16_000_000, gt=0, description="largest body of a request")


class EndpointSettings(Part):
    """Where spans go; None: nowhere."""

    endpoint: str | None = None


class RuntimeSettings(BaseSettings):
    """What all services have in common."""

    model_config = SettingsConfigDict(env_prefix="TRIMTAB_", env_nested_delimiter="__", frozen=True, extra="forbid")

    kafka: KafkaSettings = KafkaSettings()
    http: HttpSettings = HttpSettings()
    data_dir: Path = Field(Path(".trimtab"), description="where the service may keep files")
    replica: int = Field(
        0, ge=0, description="the process's slot among its service's; started again under it, it gets its tasks back"
    )
    otlp: EndpointSettings = Field(
        EndpointSettings(), description="where spans go as OpenTelemetry over HTTP (…/v1/traces); left out: nowhere"
    )
    zipkin: EndpointSettings = Field(
        EndpointSettings(), description="where spans go as Zipkin's JSON (…/api/v2/spans); left out: nowhere"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")


class StoreSettings(Part):
    """Blobs, for the services that keep some."""

    url: str = Field(
        "", description="where blobs are kept: file:///… or s3://bucket/prefix (AWS_TIMEOUT, 30s: for one)"
    )


class SigningSettings(Part):
    """PEM files: the key a service signs with, the public keys it trusts. Only those that a service uses are read."""

    private_key_file: Path = Field(Path(), description="PEM file of the key that the service signs with")
    public_key_file: Path = Field(Path(), description="PEM file of the public keys that the service trusts")
