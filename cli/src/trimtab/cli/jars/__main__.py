"""Write the lock files anew: `python -m trimtab.cli.jars`. Run it after changing a version below."""

from pathlib import Path
from tempfile import TemporaryDirectory

from jgo.env import LockFile
from jgo.maven import MavenContext

KAFKA = "4.2.2"
"""From 4.3.0 on, 4.4.0 included, a broker that starts again drops the markers of transactions which were being ended
when it died, and their partitions cannot be read any more (KAFKA-20734)."""
LOG4J = "2.25.3"
ZIPKIN = "3.6.1"
"""The sets by name. A trailing ! keeps a jar's own bill of materials from choosing the versions of the others:
log4j's would otherwise pull Kafka's clients down to 3.9."""
SETS = {
    "kafka": (f"org.apache.kafka:kafka_2.13:{KAFKA}", f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J}!"),
    "zipkin": (f"io.zipkin:zipkin-server:{ZIPKIN}:slim!",),
}
ALONE = frozenset({"zipkin"})
"""Sets whose jar carries its dependencies inside."""


def main() -> None:
    """Resolve every set and write its lock file beside this module."""
    with TemporaryDirectory() as scratch:
        context = MavenContext(repo_cache=Path(scratch), timeout=30)
        for name, coordinates in SETS.items():
            inputs = [context.create_dependency(coordinate) for coordinate in coordinates]
            others = [] if name in ALONE else context.resolver.resolve(inputs)[1]
            wanted = sorted([*inputs, *others], key=lambda d: (d.groupId, d.artifactId))
            lock = LockFile.from_resolved_dependencies(wanted)
            lock.save(Path(__file__).with_name(f"{name}.lock.toml"))
            print(f"{name}: {len(lock.dependencies)} jars")


main()
