"""Generated from schemas/ by `python -m trimtab.contracts.generate`. Never edited."""
