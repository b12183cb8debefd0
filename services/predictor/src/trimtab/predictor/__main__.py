"""Run the predictor: `python -m trimtab.predictor`."""

from trimtab.predictor.settings import Settings
from trimtab.predictor.wiring import build
from trimtab.runtime.host import run

if __name__ == "__main__":
    settings = Settings()
    run(build(settings), settings)
