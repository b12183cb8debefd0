"""Makes the contracts' Python and documents from schemas/. Runs in a checkout, never in a service."""
