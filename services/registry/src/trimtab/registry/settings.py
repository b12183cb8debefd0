"""What the registry takes from the environment."""

from pathlib import Path

from pydantic import Field

from trimtab.runtime.settings import Part, RuntimeSettings


class SigningSettings(Part):
    """Keys, as PEM files. `private_key_file`: signs deployments. `public_key_file`: the trainers that are trusted.

    `own_keys_file`: all public keys that deployments in the log were signed with, once the private key has been
    exchanged; left out: that of `private_key_file` alone.
    """

    private_key_file: Path
    public_key_file: Path
    own_keys_file: Path | None = None


class StoreSettings(Part):
    """Where models are: `file:///…` or `s3://bucket/prefix`."""

    url: str


class DatabaseSettings(Part):
    """The projection: `sqlite:///file` or `postgresql+psycopg://…`. `answer_s`: how long a command's call waits."""

    database_url: str
    answer_s: float = Field(10.0, gt=0)


class Settings(RuntimeSettings):
    """All of it."""

    signing: SigningSettings
    store: StoreSettings
    registry: DatabaseSettings
