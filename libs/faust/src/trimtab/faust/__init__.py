"""A person's own stream processor on a loop's topics, written with Faust."""

from trimtab.faust.errors import BadEventError
from trimtab.faust.processor import Processor

__all__ = ["BadEventError", "Processor"]
