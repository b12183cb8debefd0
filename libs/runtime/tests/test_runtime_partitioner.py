"""Partitions of many keys at once are those of each by itself."""

from hypothesis import given
from hypothesis import strategies as st
from trimtab.runtime.partitioner import partition_of, partitions_of

KEYS = st.lists(st.binary(max_size=70), max_size=60)


@given(KEYS, st.integers(1, 64))
def test_many_keys_are_each_where_they_would_be_alone(keys: list[bytes], partitions: int) -> None:
    assert partitions_of(keys, partitions) == [partition_of(key, partitions) for key in keys]


def test_one_long_key_among_many() -> None:
    keys = [b"k%d" % n for n in range(40)] + [b"x" * 1000]
    assert partitions_of(keys, 7) == [partition_of(key, 7) for key in keys]
