"""What ingest decides: which events keep their contract, and which are copies. Pure, on columns."""
