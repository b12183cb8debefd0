"""The journal's way in: broadcast inputs from the log."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from trimtab.contracts import control, topics
from trimtab.contracts.errors import BadControlEventError
from trimtab.retrain_controller.core.journal import Journal
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

    def apply(self, records: Sequence[Read]) -> None:
        """Take in records; what keeps no schema (written by hand) is passed over."""
        for record in records:
            if record.value is None:
                self._journal.end((record.key or b"").decode("utf-8", "replace"))
                continue
            try:
                self._journal.note(control.decode(self.topic, record.value))
            except BadControlEventError:
                continue
