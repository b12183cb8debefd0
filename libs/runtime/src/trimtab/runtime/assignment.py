"""Who runs which task: partition p of all of a stage's inputs is one unit, and units stay where they are."""

from collections.abc import Mapping, Set


def assign(partitions: int, owned: Mapping[str, Set[int]]) -> dict[str, frozenset[int]]:
    """Share the units 0..partitions-1 evenly among members, moving as few as possible.

    `owned` names all members with what each says it has; a unit claimed twice stays with the first by name. Shares
    differ by at most one. Deterministic.

    >>> {member: sorted(units) for member, units in assign(4, {"a": {0, 1, 2, 3}, "b": set()}).items()}
    {'a': [0, 1], 'b': [2, 3]}
    """
    members = sorted(owned)
    if not members:
        return {}
    kept = _kept(partitions, owned)
    quota, larger = divmod(partitions, len(members))
    by_claim = sorted(members, key=lambda member: (-len(kept[member]), member))
    shares = {member: quota + (rank < larger) for rank, member in enumerate(by_claim)}
    result = {member: set(sorted(kept[member])[: shares[member]]) for member in members}
    free = iter(sorted(set(range(partitions)).difference(*result.values())))
    for member in members:
        while len(result[member]) < shares[member]:
            result[member].add(next(free))
    return {member: frozenset(units) for member, units in result.items()}


def _kept(partitions: int, owned: Mapping[str, Set[int]]) -> dict[str, set[int]]:
    taken: set[int] = set()
    kept: dict[str, set[int]] = {}
    for member in sorted(owned):
        kept[member] = {unit for unit in owned[member] if 0 <= unit < partitions} - taken
        taken |= kept[member]
    return kept
