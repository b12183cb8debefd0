"""Versions, lineage, promotion and rollback of models."""
