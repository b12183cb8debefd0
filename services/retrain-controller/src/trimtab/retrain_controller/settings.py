"""What the controller takes from the environment."""

from trimtab.runtime.settings import RuntimeSettings


class Settings(RuntimeSettings):
    """Nothing of its own: how to decide stands in each loop's declaration."""
