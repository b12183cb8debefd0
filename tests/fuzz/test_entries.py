"""A little bad input for every entry, from one known seed and a fresh one. What is found is had again by
`python -m tests.fuzz --seed N --inputs M --only ENTRY`, as the failure says; `make fuzz` gives a hundred thousand."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import strategies as st

from tests.fuzz.entries import ENTRIES
from tests.fuzz.entry import Check, Counted, Entry, LostError, fuzz

KNOWN_SEED = 1
INPUTS = 50


@pytest.mark.filterwarnings("default")  # numpy's, of models with numbers beyond all measure
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_bad_input_is_borne(entry: Entry, fresh_seed: int) -> None:
    for seed in (KNOWN_SEED, fresh_seed):
        inputs = max(INPUTS, 2 * entry.batch)
        row = fuzz(entry, inputs, seed)
        assert not row.finding, f"--seed {seed} --inputs {inputs} --only '{entry.name}'\n{row.finding}"
        assert row.accepted + row.rejected >= inputs


@contextmanager
def _forgetful() -> Iterator[Check]:
    def check(batch: Sequence[int]) -> Counted:
        if any(number > 1_000 for number in batch):
            raise LostError("a large number")
        return Counted(len(batch), 0)

    yield check


def test_a_finding_is_shrunk_and_comes_again_from_its_seed() -> None:
    entry = Entry("numbers", st.integers(0, 2**30), 10, _forgetful)
    first, again = fuzz(entry, 200, 7), fuzz(entry, 200, 7)
    assert (first.lost, first.crashed) == (1, 0)
    assert "[1001]" in first.finding
    assert first == again
