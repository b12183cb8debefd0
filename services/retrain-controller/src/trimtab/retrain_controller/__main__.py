"""`python -m trimtab.retrain_controller`."""

from trimtab.retrain_controller.settings import Settings
from trimtab.retrain_controller.wiring import build
from trimtab.runtime.host import run


def main() -> None:
    """Run the service."""
    settings = Settings()
    run(build(settings), settings)


if __name__ == "__main__":
    main()
