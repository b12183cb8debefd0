"""Control events as a hand writes them: undecodable, against the schema, or right and absurd."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st
from trimtab.contracts import control, topics
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Headers, Out
from trimtab.store.errors import NotCanonicalError
from trimtab.store.signing import Signer
from trimtab.testing.declarations import declared, offers

from tests.fuzz.values import DEEP, FLOATS, HEADERS, HUGE, INTEGERS, JSON, KEYS, TIMES, damaged, dumped, mutated, rarely

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
TRAINER, REGISTRY = Signer.generate(), Signer.generate()
SIGNERS = {topics.MODEL_TRAINED: TRAINER, topics.DEPLOYMENT_CHANGED: REGISTRY}
LOOP, QUIET = offers(), offers(loop={"name": "quiet"})
"""The loop that is written about, and one that must not notice."""
TOPICS = tuple(control.BY_TOPIC)


class Hand(NamedTuple):
    """A record written by hand."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    def out(self) -> Out:
        """As a producer sends it."""
        return Out(self.topic, self.key, self.value, self.headers, partition_of(self.key or b"", 8))


def _documents() -> dict[str, list[dict[str, Any]]]:
    found = {
        topic: [json.loads(path.read_bytes()) for path in sorted((EXAMPLES / topic).glob("*.json"))] for topic in TOPICS
    }
    found[topics.LOOP_DECLARED] += [json.loads(control.encode(declared(LOOP)))] * 3
    return {topic: [_about_offers(one) for one in some] for topic, some in found.items()}


def _about_offers(document: Mapping[str, Any]) -> dict[str, Any]:
    return {**document, **({"loop": "offers"} if "loop" in document else {})}


DOCUMENTS = _documents()


def _numbers(document: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The document with one of its times, integers or floats replaced by another: mostly right by the schema."""
    places = list(_places(document, ()))
    return st.sampled_from(places).flatmap(
        lambda place: _fitting(place[1]).map(lambda value: _with(document, place[0], value))
    )


def _places(value: Any, path: tuple[str | int, ...]) -> Any:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:2]):
            yield from _places(inner, (*path, index))
    elif path:
        yield path, value


def _fitting(value: Any) -> st.SearchStrategy[Any]:
    if isinstance(value, bool) or value is None:
        return st.one_of(st.none(), st.booleans(), INTEGERS)
    if isinstance(value, int):
        return st.one_of(st.integers(1, 2**63 - 1), st.integers(0, 3), st.just(2**63 - 1), INTEGERS)
    if isinstance(value, float):
        return st.one_of(st.floats(0, 1e308), st.floats(-1, 1), FLOATS)
    is_time = len(value) > 18 and value[10:11] == "T"
    return TIMES if is_time else st.one_of(st.text(max_size=20), st.just("x" * 5_000))


def _with(document: Mapping[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    made: Any = json.loads(json.dumps(document))
    holder = made
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    return dict(made)


def _signed(topic: str, document: dict[str, Any], trusted: bool) -> bytes:
    if trusted and topic in SIGNERS:
        try:
            return dumped(SIGNERS[topic].sealed(document))
        except NotCanonicalError:
            pass
    return dumped(document)


@st.composite
def hands(draw: st.DrawFn, only: tuple[str, ...] = TOPICS) -> Hand:
    """A record on one of the topics."""
    topic = draw(st.sampled_from(only))
    document = draw(st.sampled_from(DOCUMENTS[topic]))
    kind = draw(st.integers(0, 9))
    key: bytes | None = str(document.get("loop", "k")).encode()
    value: bytes | None
    if kind <= 4:
        value = _signed(topic, draw(_numbers(document)), trusted=True)
    elif kind <= 6:
        value = _signed(topic, draw(mutated(document)), draw(st.booleans()))
    elif kind == 7:
        value = draw(damaged(st.just(dumped(document))))
    elif kind == 8:
        value = draw(st.one_of(st.none(), DEEP, JSON.map(dumped), st.binary(max_size=40)))
    else:
        value = _signed(topic, document, trusted=True)
        key = draw(KEYS)
    return Hand(topic, key, value, draw(HEADERS) if kind == 9 else ())


def records(only: tuple[str, ...] = TOPICS) -> st.SearchStrategy[Hand]:
    """The same, and now and then one that is very large."""
    large = st.builds(Hand, st.sampled_from(only), st.just(b"offers"), st.just(b'{"loop": "' + b"x" * HUGE + b'"}'))
    return rarely(hands(only), large, 2_000)
