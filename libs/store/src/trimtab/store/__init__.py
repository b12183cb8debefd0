"""Blobs by digest, signatures and the SQL unit of work."""
