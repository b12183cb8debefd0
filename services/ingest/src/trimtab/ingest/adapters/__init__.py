"""The world outside: the log from the edge, and a schema registry."""
