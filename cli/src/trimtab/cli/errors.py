"""What can go wrong in the command and the local cluster; every message says what to do."""

from collections.abc import Sequence
from pathlib import Path


class ClusterError(Exception):
    """Root of this package's errors. The command prints it without a traceback."""


class JarsUnavailableError(ClusterError):
    """Jars are missing from the cache and could not be downloaded."""

    def __init__(self, names: Sequence[str], reason: str) -> None:
        self.names = tuple(names)
        super().__init__(
            f"could not download {len(self.names)} jar(s), first {self.names[0]}: {reason}. "
            "The first start needs a network; a mirror can be named in jgo's own settings file, section [repositories]"
        )


class JarDigestError(ClusterError):
    """A downloaded jar is not the one that the lock file names."""

    def __init__(self, name: str, expected: str, actual: str) -> None:
        self.name = name
        super().__init__(
            f"{name} was downloaded with SHA-256 {actual}, but the lock file says {expected}. "
            "It was thrown away; check which proxy or mirror answers for it"
        )


class ProcessEndedError(ClusterError):
    """A process ended while others waited for it to become ready."""

    def __init__(self, name: str, code: int, log: Path) -> None:
        self.name = name
        self.code = code
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else ""
        super().__init__(f"{name} ended with code {code}; the end of {log}:\n{tail}")


class NotReadyError(ClusterError):
    """A process did not answer in time."""

    def __init__(self, name: str, seconds: float, log: Path) -> None:
        self.name = name
        super().__init__(f"{name} did not answer within {seconds:.0f} s; see {log}")
