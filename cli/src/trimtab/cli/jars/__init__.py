"""Sets of jars, pinned by digest in lock files beside this module and cached once per user."""

from trimtab.cli.jars.cache import JarCache
from trimtab.cli.jars.lock import Jar, Lock, load

__all__ = ["Jar", "JarCache", "Lock", "load"]
