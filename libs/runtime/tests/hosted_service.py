"""A service for the test that runs one as a process: appends what a loop's declaration says to its records."""

from trimtab.contracts.control import LoopDeclared
from trimtab.runtime.host import LoopWork, Service, run
from trimtab.runtime.records import Out
from trimtab.runtime.settings import RuntimeSettings
from trimtab.runtime.stage import Batch, Input, Output, Result, Stage, Tables


def suffixing(declared: LoopDeclared) -> LoopWork:
    """One stage a loop."""
    suffix, loop = declared.declaration["suffix"].encode(), declared.loop

    def step(_partition: int, _tables: Tables, batch: Batch) -> Result:
        return Result(
            [Out(f"{loop}.out", r.key, (r.value or b"") + suffix) for r in batch.records.get(f"{loop}.in", ())]
        )

    inputs, outputs = [Input(f"{loop}.in", "none")], [Output(f"{loop}.out", 1)]
    return LoopWork([Stage(f"suffix.add.{loop}", f"{loop}.log", 1, inputs, step, outputs)])


if __name__ == "__main__":
    run(Service("suffix", work=suffixing), RuntimeSettings())
