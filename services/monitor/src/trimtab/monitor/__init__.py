"""Joins late labels, watches predictions and errors for drift."""
