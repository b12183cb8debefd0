"""What the predictor takes from the environment."""

from pydantic import Field

from trimtab.runtime.settings import Part, RuntimeSettings, SigningSettings, StoreSettings


class OnlineSettings(Part):
    """The replica of online values."""

    memory_budget_mb: int = Field(
        4_096, gt=0, description="past this the predictor is not ready: give it more, or windows and keys fewer"
    )


class ModelsSettings(Part):
    """Models in memory."""

    keep_mb: int = Field(
        256,
        ge=0,
        description="MB of earlier deployments' models, by the size of their files, that a loop keeps in memory beside "
        "those that score now; another is loaded by the first ask of its time",
    )


class SpoolSettings(Part):
    """Answers over HTTP while Kafka is away."""

    max_mb: int = Field(
        256,
        ge=0,
        description="MB of a loop's answers over HTTP that may wait in TRIMTAB_DATA_DIR/spool while Kafka is away; "
        "0: no answer without Kafka, but 503",
    )


class Settings(RuntimeSettings):
    """`signing.public_key_file`: the registry's, whose deployments are obeyed. `store`: where models are."""

    store: StoreSettings = StoreSettings()
    signing: SigningSettings = SigningSettings()
    online: OnlineSettings = OnlineSettings()
    models: ModelsSettings = ModelsSettings()
    spool: SpoolSettings = SpoolSettings()
