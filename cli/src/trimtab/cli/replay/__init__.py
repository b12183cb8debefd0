"""Recorded events, produced in event-time order, never further ahead of the services than they can follow."""
