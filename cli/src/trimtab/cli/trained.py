"""Kafka's classes, loaded and linked beforehand: the broker then answers after a third of the time and of the CPU.

An AOT cache of the JVM (JEP 483 and 514): one broker is started for it and stopped again, once for each set of jars,
JVM and flags. Without one, a broker starts as ever; the JVM passes over a cache that does not fit.
"""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from trimtab.cli.broker import EmbeddedBroker, aot_cache, wait_until_answering
from trimtab.cli.errors import ClusterError
from trimtab.cli.jars.cache import JarCache, locked

WRITE_S = 90.0
"""How long the JVM may take to write the cache when it ends."""


def train(jars: JarCache, console: Console) -> None:
    """Make the cache if there is none. Where it cannot be made, that is noted and not tried again."""
    cache = aot_cache(jars)
    if cache.exists():
        return
    with locked(cache.with_suffix(".lock")), console.status("preparing Kafka's start, once: later ones are quicker"):
        if not cache.exists():
            _make(jars, cache)


def _make(jars: JarCache, cache: Path) -> None:
    part = cache.with_suffix(".part")
    part.unlink(missing_ok=True)
    with TemporaryDirectory(dir=cache.parent) as scratch:
        broker = EmbeddedBroker(Path(scratch), jars, (f"-XX:AOTCacheOutput={part}",))
        command = broker.prepare()
        process = broker.start(command)
        try:
            wait_until_answering(process, command.port, broker.log)
            process.terminate()
            process.wait(WRITE_S)
        except (ClusterError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()
            part.unlink(missing_ok=True)
    if part.exists():
        part.replace(cache)
    else:
        cache.touch()
