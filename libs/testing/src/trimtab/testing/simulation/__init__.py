"""Whole clusters in one thread without a clock: what happens is a pure function of a seed and a list of faults."""

from trimtab.testing.simulation.bus import SimulatedBus, SimulatedConsumer, SimulatedTransactions
from trimtab.testing.simulation.cluster import Cluster
from trimtab.testing.simulation.dice import Dice
from trimtab.testing.simulation.errors import ScheduleStuckError, SimulationError
from trimtab.testing.simulation.faults import Fault, Kind, draw
from trimtab.testing.simulation.loop import Process, SeededLoop
from trimtab.testing.simulation.silence import silence

__all__ = [
    "Cluster",
    "Dice",
    "Fault",
    "Kind",
    "Process",
    "ScheduleStuckError",
    "SeededLoop",
    "SimulatedBus",
    "SimulatedConsumer",
    "SimulatedTransactions",
    "SimulationError",
    "draw",
    "silence",
]
