"""Run ingest: `python -m trimtab.ingest`."""

from trimtab.ingest.settings import Settings
from trimtab.ingest.wiring import build
from trimtab.runtime.host import run

if __name__ == "__main__":
    settings = Settings()
    run(build(settings), settings)
