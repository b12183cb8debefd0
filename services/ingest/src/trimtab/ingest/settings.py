"""What ingest takes from the environment."""

from pydantic import Field, SecretStr

from trimtab.runtime.settings import Part, RuntimeSettings, StoreSettings


class SchemaRegistrySettings(Part):
    """A schema registry with Confluent's API, for producers that write its frame."""

    url: str | None = Field(None, description="where it is; without it, events in a Confluent frame are rejected")
    username: str = Field("", description="for basic authentication")
    password: SecretStr = Field(SecretStr(""), description="for basic authentication")


class Settings(RuntimeSettings):
    """Settings of ingest."""

    store: StoreSettings = StoreSettings()
    schema_registry: SchemaRegistrySettings = SchemaRegistrySettings()
    trace_share: float = Field(
        0.001, ge=0, le=1, description="share of the events without a `traceparent` for which a trace is started"
    )
