"""What the predictor takes from the environment."""

from trimtab.runtime.settings import RuntimeSettings, SigningSettings, StoreSettings


class Settings(RuntimeSettings):
    """`signing.public_key_file`: the registry's, whose deployments are obeyed. `store`: where models are."""

    store: StoreSettings = StoreSettings()
    signing: SigningSettings = SigningSettings()
