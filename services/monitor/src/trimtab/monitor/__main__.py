"""`python -m trimtab.monitor`."""

from trimtab.monitor.settings import Settings
from trimtab.monitor.wiring import build
from trimtab.runtime.host import run


def main() -> None:
    """Run the service."""
    settings = Settings()
    run(build(settings), settings)


if __name__ == "__main__":
    main()
