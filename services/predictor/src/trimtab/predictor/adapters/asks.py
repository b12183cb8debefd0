"""Asks over HTTP, held to the same contract and rule as events that come through ingest."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from trimtab.contracts import times
from trimtab.contracts.codec import AvroCodec
from trimtab.loops.incoming.candidates import beyond_clock, candidates
from trimtab.loops.incoming.contract import compile_contract
from trimtab.loops.incoming.ports import no_registry
from trimtab.loops.keys import value_text
from trimtab.loops.model import Loop
from trimtab.predictor.errors import InvalidAskError

Parsed = tuple[str, int, Mapping[str, Any]]
"""Key, event time in ms, physical values."""
Parse = Callable[[Sequence[Mapping[str, Any]]], list[Parsed]]


def parser(loop: Loop, now_ms: Callable[[], int]) -> Parse:
    """From JSON objects to asks. One without a time is asked now.

    What it returns raises InvalidAskError, which names each field that is wrong, what is expected and what was given.
    """
    event = loop.asks
    contract = compile_contract(loop, event, no_registry)
    decode = AvroCodec(event.schema).decode

    def parse(items: Sequence[Mapping[str, Any]]) -> list[Parsed]:
        now = now_ms()
        asked_now = {event.time: times.text(now)}
        messages = [msgspec.json.encode(item if event.time in item else {**item, **asked_now}) for item in items]
        kept, rejected = candidates(contract, messages)
        wrong = {one.index: one.refusal.reason for one in rejected}
        for index, at_ms in zip(kept.indexes, kept.times_ms, strict=True):
            if (reason := beyond_clock(contract, at_ms, now)) is not None:
                wrong[index] = reason
        if wrong:
            first = min(wrong)
            raise InvalidAskError(wrong[first] if len(items) == 1 else f"ask [{first}]: {wrong[first]}")
        asks = [decode(body) for body in contract.encoder.encode(kept.columns)]
        return [(value_text(ask[loop.predict.key]), at, ask) for ask, at in zip(asks, kept.times_ms, strict=True)]

    return parse
