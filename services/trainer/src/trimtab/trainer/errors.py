"""Why a request to train ends without a model, each with what would help."""


class TrainingError(Exception):
    """The root: `reason` is the short name that `training.failed` carries."""

    reason = "failed"


class NotDeclaredError(TrainingError):
    """The loop of the request is not declared (any more)."""

    reason = "not_declared"

    def __init__(self, loop: str) -> None:
        super().__init__(f"the loop {loop!r} is not declared (any more): `trimtab apply` declares it")


class TooFewMaturedRowsError(TrainingError):
    """Not enough matured rows to fit and to hold out."""

    reason = "too_few_rows"

    def __init__(self, rows: int, held_out: int) -> None:
        super().__init__(
            f"{rows} matured rows to fit on and {held_out} to hold out are too few: "
            "wait for labels, or shorten [gate] holdout"
        )


class ModelFailedError(TrainingError):
    """The estimator, its packaging or its data refused."""

    reason = "estimator"


class ChildEndedError(TrainingError):
    """The process that fitted ended without an answer."""

    reason = "child_ended"

    def __init__(self, status: int | None, said: str) -> None:
        super().__init__(f"the fitting process ended with status {status}: {said or 'it said nothing'}")


class RangeGoneError(TrainingError):
    """A stretch of the log is not there any more."""

    reason = "range_gone"

    def __init__(self, topic: str, what: str) -> None:
        super().__init__(f"the rows cannot be read from {topic} again: {what}")
