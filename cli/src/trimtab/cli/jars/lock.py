"""Lock files (in jgo's format): which jars make up a set, each with its SHA-256."""

import hashlib
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Jar:
    """One file by Maven coordinates. `sha256` in hex."""

    group: str
    artifact: str
    version: str
    sha256: str
    classifier: str = ""

    @property
    def file(self) -> str:
        """The file's name as Maven calls it."""
        classifier = f"-{self.classifier}" if self.classifier else ""
        return f"{self.artifact}-{self.version}{classifier}.jar"

    def is_at(self, path: Path) -> bool:
        """Whether the file there is this jar, byte for byte."""
        return path.is_file() and digest(path) == self.sha256


@dataclass(frozen=True, slots=True)
class Lock:
    """A named set of jars. `digest` changes when any of them does."""

    name: str
    digest: str
    jars: tuple[Jar, ...]


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parse(name: str, text: str) -> Lock:
    """Read a lock file's text. Entries without a digest are a KeyError: nothing runs unverified."""
    jars = tuple(
        Jar(d["groupId"], d["artifactId"], d["version"], d["sha256"], d.get("classifier", ""))
        for d in tomllib.loads(text)["dependencies"]
    )
    return Lock(name, hashlib.sha256("".join(jar.sha256 for jar in jars).encode()).hexdigest(), jars)


def load(name: str) -> Lock:
    """The lock file that comes with this package: "kafka" or "zipkin"."""
    return parse(name, resources.files(__package__).joinpath(f"{name}.lock.toml").read_text())
