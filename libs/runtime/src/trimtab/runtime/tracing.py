"""Spans of stages: only records whose `traceparent` is sampled cost anything."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from trimtab.runtime.records import Out, Read
from trimtab.runtime.stage import Milestone


class Traced(Protocol):
    """The spans of one batch, from its step to its commit."""

    def rewrite(self, outs: Sequence[Out], milestones: Sequence[Milestone]) -> Sequence[Out]:
        """The same records; those that carry a sampled `traceparent` carry the span that they follow from instead."""

    def end(self) -> None:
        """The batch has been committed. (A batch that fails leaves no spans: its repetition will.)"""


class Tracing(Protocol):
    """Makes the spans of batches."""

    def begin(self, name: str, records: Mapping[str, Sequence[Read]]) -> Traced:
        """Spans for the sampled records of a batch, children of what their `traceparent` names."""


class Untraced:
    """A batch without sampled records."""

    def rewrite(self, outs: Sequence[Out], _milestones: Sequence[Milestone]) -> Sequence[Out]:
        """Unchanged."""
        return outs

    def end(self) -> None:
        """Nothing to end."""


UNTRACED = Untraced()


class NoTracing:
    """Makes no spans."""

    def begin(self, _name: str, _records: Mapping[str, Sequence[Read]]) -> Traced:
        """None at all."""
        return UNTRACED


NO_TRACING = NoTracing()
