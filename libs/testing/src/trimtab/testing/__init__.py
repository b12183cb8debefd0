"""Fakes and fixtures for Trimtab's own tests."""

from trimtab.testing.steps import as_read, record, run_step, tables_of

__all__ = ["as_read", "record", "run_step", "tables_of"]
