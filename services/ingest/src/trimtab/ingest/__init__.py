"""Takes users' events in: validates, keys, drops duplicates, quarantines."""
