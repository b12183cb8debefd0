"""Fakes and fixtures for Trimtab's own tests."""
