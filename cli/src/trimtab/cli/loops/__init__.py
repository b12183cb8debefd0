"""Commands about loops: declare them, list them, end them, feed them recorded events."""
