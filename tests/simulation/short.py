"""How many schedules the short form runs: those that are always the same, and fresh ones."""

RUNTIME_FIXED, RUNTIME_FRESH = 30, 20
SERVICES_FIXED, SERVICES_FRESH = 4, 3
