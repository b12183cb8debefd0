"""What the monitor takes from the environment."""

from trimtab.runtime.settings import RuntimeSettings


class Settings(RuntimeSettings):
    """Nothing of its own: what to watch stands in each loop's declaration."""
