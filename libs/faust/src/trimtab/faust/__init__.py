"""A person's own stream processor on a loop's topics, written with Faust."""
