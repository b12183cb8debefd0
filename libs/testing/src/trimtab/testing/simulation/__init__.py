"""Whole clusters in one thread without a clock: what happens is a pure function of a seed and a list of faults."""

from trimtab.testing.simulation.bus import SimulatedBus, SimulatedConsumer, SimulatedEdge, SimulatedTransactions
from trimtab.testing.simulation.cluster import SESSION_S, Cluster
from trimtab.testing.simulation.dice import Dice
from trimtab.testing.simulation.errors import ScheduleStuckError, SimulationError
from trimtab.testing.simulation.faults import Fault, Kind, draw
from trimtab.testing.simulation.loop import Process, SeededLoop
from trimtab.testing.simulation.programs import Program, ServiceProgram, StagesProgram
from trimtab.testing.simulation.silence import silence

__all__ = [
    "SESSION_S",
    "Cluster",
    "Dice",
    "Fault",
    "Kind",
    "Process",
    "Program",
    "ScheduleStuckError",
    "SeededLoop",
    "ServiceProgram",
    "SimulatedBus",
    "SimulatedConsumer",
    "SimulatedEdge",
    "SimulatedTransactions",
    "SimulationError",
    "StagesProgram",
    "draw",
    "silence",
]
