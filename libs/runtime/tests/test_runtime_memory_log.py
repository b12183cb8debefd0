"""A partition in memory: what compaction leaves."""

from trimtab.runtime.bus import Part
from trimtab.runtime.memory_log import PartitionLog
from trimtab.runtime.records import Out


def log_of(*keys: str) -> PartitionLog:
    log = PartitionLog(Part("t", 0))
    log.append([Out("t", key.encode(), b"%d" % number) for number, key in enumerate(keys)], 0)
    return log


def offsets(log: PartitionLog) -> list[int]:
    return [record.offset for record in log.read(0, 100)[0]]


def test_the_newest_of_each_key_stays_where_it_stands() -> None:
    log = log_of("a", "b", "a", "a", "b")
    log.compact(4)
    assert offsets(log) == [1, 3, 4]
    assert (log.first, log.end) == (0, 5)


def test_what_is_superseded_only_later_stays() -> None:
    log = log_of("a", "a")
    log.compact(1)
    assert offsets(log) == [0, 1]


def test_nothing_is_compacted_beyond_an_open_transaction() -> None:
    log = log_of("a")
    log.hold("task", [Out("t", b"a", b"open")], 0)
    log.append([Out("t", b"a", b"later")], 0)
    log.compact(3)
    log.settle("task", commit=False)
    assert offsets(log) == [0, 2]


def test_a_copy_goes_its_own_way_without_open_transactions() -> None:
    log = log_of("a")
    log.hold("task", [Out("t", b"a", b"open")], 0)
    copy = log.copy()
    log.settle("task", commit=True)
    copy.append([Out("t", b"b", b"")], 0)
    assert (offsets(log), offsets(copy)) == ([0, 1], [0, 2])
