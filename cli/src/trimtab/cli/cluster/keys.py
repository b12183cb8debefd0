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
        """Make what is missing. A pair's public key appears last, so a pair that was left half is made anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / "part"
        for signer in SIGNERS:
            if (self.folder / f"{signer}.public.pem").exists():
                continue
            shutil.rmtree(part, ignore_errors=True)
            for key in make_key_pair(part, signer):
                key.replace(self.folder / key.name)
            part.rmdir()

    def environment(self, service: str) -> dict[str, str]:
        """The settings by which a service finds the key it signs with and the key it trusts."""
        env = {}
        if service in SIGNERS:
            env[PRIVATE] = str(self.folder / f"{service}.private.pem")
        if service in TRUSTS:
            env[PUBLIC] = str(self.folder / f"{TRUSTS[service]}.public.pem")
        return env
