"""Estimators, packaging, metrics, gates and drift detectors."""
