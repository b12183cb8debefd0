"""The keys of a local cluster: one pair for each service that signs, made at the first start."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from trimtab.store.signing import make_key_pair

SIGNERS = ("trainer", "registry")
PRIVATE, PUBLIC = "TRIMTAB_SIGNING__PRIVATE_KEY_FILE", "TRIMTAB_SIGNING__PUBLIC_KEY_FILE"
TRUSTS = {"registry": "trainer", "predictor": "registry"}
"""Whose signature a service verifies: the registry believes trainers, predictors obey the registry."""


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """`folder`/<signer>.private.pem and .public.pem."""

    folder: Path

    def ensure(self) -> None:
        """Make what is missing: all pairs or none, so that a start killed here leaves nothing half."""
        if self.folder.exists():
            return
        part = self.folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        for signer in SIGNERS:
            make_key_pair(part, signer)
        part.replace(self.folder)

    def environment(self, service: str) -> dict[str, str]:
        """The settings by which a service finds the key it signs with and the key it trusts."""
        env = {}
        if service in SIGNERS:
            env[PRIVATE] = str(self.folder / f"{service}.private.pem")
        if service in TRUSTS:
            env[PUBLIC] = str(self.folder / f"{TRUSTS[service]}.public.pem")
        return env
