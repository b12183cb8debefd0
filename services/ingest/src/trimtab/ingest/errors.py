"""What can go wrong at ingest's edges."""


class IngestError(Exception):
    """Root of this service's errors."""


class UnknownLoopError(IngestError):
    """A loop that is not declared, or not (yet) at work here."""

    def __init__(self, loop: str, near: str | None) -> None:
        meant = f"did you mean {near!r}?" if near else "`trimtab loops` lists those that are"
        super().__init__(f"no loop {loop!r} is declared; {meant}")
        self.loop = loop


class UnknownEventError(IngestError):
    """An event that a loop's declaration does not name."""

    def __init__(self, loop: str, event: str, meant: str) -> None:
        super().__init__(f"loop {loop!r} has no event {event!r}; {meant}")
        self.loop = loop
        self.event = event


class UnreadableBodyError(IngestError):
    """A request whose body cannot be taken apart into events."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"expected one JSON object, a JSON array of them, one on each line, or one Avro event; {reason}"
        )
        self.reason = reason


class TooMuchError(IngestError):
    """A request that holds more than one may."""

    def __init__(self, limit: str) -> None:
        super().__init__(f"a request may hold at most {limit}: send several")
        self.limit = limit


class LogAwayError(IngestError):
    """The log did not acknowledge: the events may or may not stand there. Sent again, they count once, by their ids."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the log has not acknowledged the events; send the same again in a moment: {reason}")
        self.reason = reason


class SchemaRegistryError(IngestError):
    """The schema registry did not answer a question that it can answer."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"the schema registry at {url} cannot be asked: {reason}")
        self.url = url
        self.reason = reason
