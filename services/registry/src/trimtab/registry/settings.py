"""What the registry takes from the environment."""

from pathlib import Path

from pydantic import Field

from trimtab.runtime.settings import Part, RuntimeSettings


class SigningSettings(Part):
    """Keys, as PEM files."""

    private_key_file: Path = Field(description="PEM file of the key that the service signs with")
    public_key_file: Path = Field(description="PEM file of the public keys that the service trusts")
    own_keys_file: Path | None = Field(
        None,
        description="all public keys that deployments in the log were signed with, once the private key has been "
        "exchanged; left out: that of the private key alone",
    )


class StoreSettings(Part):
    """Where models are."""

    url: str = Field(description="where blobs are kept: file:///… or s3://bucket/prefix (AWS_TIMEOUT, 30s: for one)")


class DatabaseSettings(Part):
    """The projection."""

    database_url: str = Field(description="the projection: sqlite:///file or postgresql+psycopg://…")
    answer_s: float = Field(10.0, gt=0, description="seconds that a command's call waits for the projection")


class Settings(RuntimeSettings):
    """All of it."""

    signing: SigningSettings
    store: StoreSettings
    registry: DatabaseSettings
