"""Run the trainer: `python -m trimtab.trainer`."""

from trimtab.runtime.host import run
from trimtab.trainer.settings import Settings
from trimtab.trainer.wiring import build

if __name__ == "__main__":
    settings = Settings()
    run(build(settings), settings)
