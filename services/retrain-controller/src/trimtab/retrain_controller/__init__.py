"""Decides whether retraining is worth it."""
