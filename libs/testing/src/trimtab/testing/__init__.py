"""Fakes and fixtures for Trimtab's own tests."""

from trimtab.testing.stages import QUICK, Running, data, run_stages, topics_of
from trimtab.testing.steps import as_read, record, run_step, tables_of

__all__ = ["QUICK", "Running", "as_read", "data", "record", "run_stages", "run_step", "tables_of", "topics_of"]
