"""The long form: every entry of Trimtab under bad input, until so many have been given.

python -m tests.fuzz --inputs 100000
python -m tests.fuzz --only loop.toml --inputs 5000 --seed 7
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from trimtab.testing.simulation import silence

from tests.fuzz.entries import ENTRIES, shared
from tests.fuzz.entry import Row, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, help="default: a fresh one")
    parser.add_argument("--only", help="entries whose name holds this")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
    chosen = shared(given.inputs, given.only)
    print(f"seed {seed}, {sum(chosen.values())} inputs")
    rows: list[Row] = []
    with silence():
        for number, entry in enumerate(ENTRIES):
            if entry.name in chosen:
                print(f"{number + 1}/{len(ENTRIES)} {entry.name}: {chosen[entry.name]} inputs", flush=True)
                rows.append(fuzz(entry, chosen[entry.name], seed))
    tell(rows, seed, chosen)
    return int(any(row.finding for row in rows))


def tell(rows: Sequence[Row], seed: int, inputs: dict[str, int]) -> None:
    """The table, and how each finding is had again."""
    width = max(len(row.entry) for row in rows)
    print(f"\n{'entry':<{width}} {'inputs':>8} {'accepted':>9} {'rejected':>9} {'crashed':>8} {'lost':>5}")
    for row in [*rows, total(rows)]:
        print(
            f"{row.entry:<{width}} {row.inputs:>8} {row.accepted:>9} {row.rejected:>9} {row.crashed:>8} {row.lost:>5}"
        )
    for row in rows:
        if row.finding:
            again = f"python -m tests.fuzz --seed {seed} --inputs {inputs[row.entry]} --only '{row.entry}'"
            print(f"\nFOUND {row.entry}; again: {again}")
            print(row.finding)


def total(rows: Sequence[Row]) -> Row:
    """All entries together."""
    columns = zip(*((row.inputs, row.accepted, row.rejected, row.crashed, row.lost) for row in rows), strict=True)
    return Row("all", *(sum(column) for column in columns))


if __name__ == "__main__":
    sys.exit(main())
