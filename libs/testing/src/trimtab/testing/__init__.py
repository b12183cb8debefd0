"""Fakes and fixtures for Trimtab's own tests."""

from trimtab.testing.labs import KafkaLab, Lab, MemoryLab, read_all
from trimtab.testing.stages import QUICK, Running, data, run_stages, topics_of
from trimtab.testing.steps import as_read, record, run_step, tables_of

__all__ = [
    "QUICK",
    "KafkaLab",
    "Lab",
    "MemoryLab",
    "Running",
    "as_read",
    "data",
    "read_all",
    "record",
    "run_stages",
    "run_step",
    "tables_of",
    "topics_of",
]
