"""Keeps windowed aggregates per group key and serves them."""
