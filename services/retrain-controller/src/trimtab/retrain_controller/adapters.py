"""The journal's way in: broadcast inputs from the log."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from trimtab.contracts import topics
from trimtab.retrain_controller.core.journal import Journal
from trimtab.runtime.control import Refused, as_written
from trimtab.runtime.records import Read

TOPICS = (topics.LOOP_DECLARED, topics.RETRAIN_ASKED, topics.RETRAIN_REQUESTED, topics.RETRAIN_DECLINED)
"""What the journal is read from."""


class JournalView:
    """One of the journal's topics."""

    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = MappingProxyType({})

    def __init__(self, topic: str, journal: Journal) -> None:
        self.topic = topic
        self._journal = journal

    def apply(self, records: Sequence[Read]) -> Sequence[Refused]:
        """Take in records; those that keep no schema (written by hand) are passed over and given back."""
        events, refused = as_written(self.topic, records)
        for one in events:
            if one.event is None:
                self._journal.end(one.loop)
            else:
                self._journal.note(one.event)
        return refused
