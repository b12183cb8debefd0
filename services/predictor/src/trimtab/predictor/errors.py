"""What can go wrong in the predictor, each with what to do about it."""

from pathlib import Path

from trimtab.loops.incoming.diagnosis import brief


class PredictorError(Exception):
    """The root of this package's errors."""


class UnknownFeatureError(PredictorError):
    """A request that overrides a feature which the loop does not have."""

    def __init__(self, name: str, right: str) -> None:
        super().__init__(f"{brief(name)!r} is no feature of this loop; right: {right}")
        self.name = name


class FeatureTypeError(PredictorError):
    """A request that overrides a feature with a value of another type."""

    def __init__(self, name: str, expected: str, got: object) -> None:
        super().__init__(f"feature {name!r} takes {expected}, not {brief(repr(got))}")
        self.name = name


class NotLoggedError(PredictorError):
    """A prediction that could not be logged was not given out."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the prediction could not be logged ({reason}); it was not given out: ask again")


class SpoolHeldError(PredictorError):
    """Another process keeps answers in the same folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"another predictor keeps its answers in {folder}: end it, or give this one a TRIMTAB_REPLICA of its own"
        )
        self.folder = folder


class SpoolDamagedError(PredictorError):
    """What was written to the disk is not what stands there."""

    def __init__(self, file: Path, place: int) -> None:
        super().__init__(
            f"{file} does not verify from byte {place} on; keep a copy to look at: the next start cuts it off"
        )
        self.file = file
        self.place = place


class OtherFeaturesError(PredictorError):
    """A model that was fitted on other features than the loop declares now."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"version {version} was fitted on other features than the loop declares now; it has to be retrained"
        )
        self.version = version


class InvalidAskError(PredictorError):
    """A request whose fields are not those of the asking event."""
