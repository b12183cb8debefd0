"""What can be wrong with a stream processor."""


class ProcessorError(Exception):
    """Root of this package's errors."""


class BadEventError(ProcessorError):
    """Raise it for an event that makes no sense: it goes to quarantine with this reason, and the stream goes on."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class UnknownEventError(ProcessorError):
    """An event that the loop does not declare."""

    def __init__(self, loop: str, event: str, known: list[str]) -> None:
        self.loop, self.event = loop, event
        super().__init__(
            f"loop {loop!r} declares no event {event!r}, only {', '.join(sorted(known))}: add it to loop.toml"
        )


class EventWithoutIdError(ProcessorError):
    """A derived event whose copies nobody could recognise."""

    def __init__(self, loop: str, event: str) -> None:
        self.loop, self.event = loop, event
        super().__init__(
            f"event {event!r} of loop {loop!r} has no `id`: declare one, or ingest cannot drop the copies that a "
            "restarted processor sends"
        )
