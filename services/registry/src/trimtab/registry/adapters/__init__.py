"""SQL, and the way of commands into the log and back."""
