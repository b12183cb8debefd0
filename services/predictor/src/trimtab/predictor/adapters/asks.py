"""Asks over HTTP, read by the same contract as events that come through ingest."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from trimtab.contracts import times
from trimtab.contracts.codec import AvroCodec
from trimtab.loops.incoming.columns import event_times, physical
from trimtab.loops.incoming.contract import compile_contract
from trimtab.loops.incoming.ports import no_registry
from trimtab.loops.incoming.reading import read
from trimtab.loops.keys import value_text
from trimtab.loops.model import Loop
from trimtab.predictor.errors import InvalidAskError

Parse = Callable[[Mapping[str, Any]], tuple[str, int, Mapping[str, Any]]]


def parser(loop: Loop, now_ms: Callable[[], int]) -> Parse:
    """From a JSON object to (key, event time in ms, physical values). An ask without a time is asked now.

    What it returns raises InvalidAskError, which names each field that is wrong, what is expected and what was given.
    """
    event = loop.asks
    contract = compile_contract(loop, event, no_registry)
    decode = AvroCodec(event.schema).decode

    def parse(item: Mapping[str, Any]) -> tuple[str, int, Mapping[str, Any]]:
        timed = item if event.time in item else {**item, event.time: times.text(now_ms())}
        found = read(contract, [msgspec.json.encode(timed)])
        if found.refused:
            raise InvalidAskError(found.refused[0].refusal.reason)
        columns = physical(contract.fields, found.rows)
        at_ms, untimed = event_times(contract, columns[contract.time])
        if untimed:
            raise InvalidAskError(untimed[0].reason)
        ask = decode(contract.encoder.encode(columns)[0])
        key = ask[loop.predict.key]
        if key is None:
            raise InvalidAskError(f"{loop.predict.key}: it names the prediction and may not be null")
        return value_text(key), at_ms[0], ask

    return parse
