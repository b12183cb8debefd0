"""Run the feature service: `python -m trimtab.feature`."""

from trimtab.feature.settings import Settings
from trimtab.feature.wiring import build
from trimtab.runtime.host import run

if __name__ == "__main__":
    settings = Settings()
    run(build(settings), settings)
