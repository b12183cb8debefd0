"""What can be wrong with a look-up, each with what would be right."""

from collections.abc import Sequence

from trimtab.contracts import times
from trimtab.loops.names import suggestion


class FeatureError(Exception):
    """Root of this package's errors."""


class UnknownLoopError(FeatureError):
    """A loop that is not declared, or has no groups."""

    def __init__(self, loop: str, known: Sequence[str]) -> None:
        there = (
            f"right: {suggestion(loop, known)}" if known else "none with groups is declared: run `trimtab apply FOLDER`"
        )
        super().__init__(f"no loop {loop!r} with groups is served here; {there}")


class UnknownGroupError(FeatureError):
    """A group or latest value that the loop does not declare."""

    def __init__(self, loop: str, group: str, known: Sequence[str]) -> None:
        super().__init__(f"loop {loop!r} has no group {group!r}; right: {suggestion(group, known)}")


class KeyPartsError(FeatureError):
    """Another number of key values than the group has fields."""

    def __init__(self, group: str, by: Sequence[str], got: int) -> None:
        example = "&".join(f"key=<{name}>" for name in by)
        super().__init__(f"group {group!r} is by {', '.join(by)}, and {got} values came: give {example}")


class BadInstantError(FeatureError):
    """A time that cannot be read."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"at={text} is no time: give RFC 3339 with a zone, of the years 1000 to 8999, "
            f"such as {times.text(1_700_000_000_000)}"
        )
