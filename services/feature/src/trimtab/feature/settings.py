"""What the feature service takes from the environment."""

from trimtab.runtime.settings import RuntimeSettings


class Settings(RuntimeSettings):
    """The runtime's own settings; there are no others."""
