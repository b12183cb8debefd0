"""The report of a loop: what happened on one time axis, and what it was worth."""
