"""What the trainer takes from the environment."""

import os
from collections.abc import Mapping

from trimtab.runtime.settings import RuntimeSettings, SigningSettings, StoreSettings


class Settings(RuntimeSettings):
    """`signing.private_key_file`: signs model.trained. Columns of the log are cached under `data_dir`/columns."""

    store: StoreSettings = StoreSettings()
    signing: SigningSettings = SigningSettings()


def child_environment() -> Mapping[str, str]:
    """The environment of the fitting process: one thread for each numerical library beside other processes."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
