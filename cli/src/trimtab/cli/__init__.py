"""The trimtab command and the local cluster."""
