"""Builds datasets, fits, compares with the champion, packages, signs."""
