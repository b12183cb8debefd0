"""What can be wrong with a declaration, and what would be right."""

from collections.abc import Sequence
from dataclasses import dataclass


class LoopsError(Exception):
    """Root of this package's errors."""


class ExpressionError(LoopsError):
    """An expression that is not allowed or cannot be evaluated.

    `position` is the 0-based offset in the expression's text where the trouble starts; `suggestion` says what would be
    right, or is empty.
    """

    def __init__(self, position: int, message: str, suggestion: str = "") -> None:
        super().__init__(position, message, suggestion)
        self.position = position
        self.message = message
        self.suggestion = suggestion

    def __str__(self) -> str:
        text = f"{self.message} (at character {self.position + 1})"
        return f"{text}: {self.suggestion}" if self.suggestion else text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a declaration.

    `line` counts from 1 (0: the whole file); `key` is the dotted key; `excerpt` shows an expression with a caret under
    the position of the error.
    """

    file: str
    line: int
    key: str
    wrong: str
    right: str = ""
    excerpt: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        head = f"{place}: {self.key}: {self.wrong}" if self.key else f"{place}: {self.wrong}"
        body = [*self.excerpt.splitlines(), *([f"right: {self.right}"] if self.right else [])]
        return "\n".join([head, *(f"    {line}" for line in body)])


class DeclarationError(LoopsError):
    """All problems of a declaration, in the order of their lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DeclaredError(LoopsError):
    """A `loop.declared` event whose content is not what its digest says, or that this version cannot read."""


class EventFileError(LoopsError):
    """A file of recorded events that cannot be read as the declaration says."""

    def __init__(self, file: str, wrong: str, right: str) -> None:
        super().__init__(f"{file}: {wrong}\n    right: {right}")
        self.file = file
        self.wrong = wrong
        self.right = right


class DraftError(LoopsError):
    """A sample from which no loop can be drafted as it stands."""

    def __init__(self, wrong: str, right: str) -> None:
        super().__init__(f"{wrong}\n    right: {right}")
        self.wrong = wrong
        self.right = right
