"""Ed25519 signatures over canonical JSON: who trained a model, who deployed it."""

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from trimtab.store.canonical import canonical
from trimtab.store.errors import BadKeyFileError, BadSignatureError, KeyFileExistsError, NotCanonicalError

SIGNATURE = "signature"
END = b"-----END PUBLIC KEY-----"


class Signer:
    """Signs with one private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def load(cls, path: Path) -> "Signer":
        """From a PEM file. Raises BadKeyFileError."""
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise BadKeyFileError(path, str(error)) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise BadKeyFileError(path, "it holds a key of another kind")
        return cls(key)

    @classmethod
    def generate(cls) -> "Signer":
        """A new key from the system's random source."""
        return cls(Ed25519PrivateKey.generate())

    def sign(self, fields: Mapping[str, Any]) -> str:
        """The signature, in base64, over the canonical JSON of all fields but `signature`."""
        return base64.b64encode(self._key.sign(_signed_bytes(fields))).decode()

    def sealed(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields with their signature."""
        return {**fields, SIGNATURE: self.sign(fields)}

    def verifier(self) -> "Verifier":
        """Trusts this signer alone."""
        return Verifier((self._key.public_key(),))

    def private_pem(self) -> bytes:
        """The private key, PKCS 8, not encrypted."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def public_pem(self) -> bytes:
        """The public key."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Verifier:
    """Verifies against one or more trusted public keys (several while keys are being exchanged)."""

    def __init__(self, keys: tuple[Ed25519PublicKey, ...]) -> None:
        self._keys = keys

    @classmethod
    def load(cls, path: Path) -> "Verifier":
        """From a file with one PEM public key after the other. Raises BadKeyFileError."""
        try:
            blocks = [block + END for block in path.read_bytes().split(END) if block.strip()]
            keys = [load_pem_public_key(block) for block in blocks]
        except (OSError, ValueError) as error:
            raise BadKeyFileError(path, str(error)) from error
        trusted = tuple(key for key in keys if isinstance(key, Ed25519PublicKey))
        if not trusted or len(trusted) < len(keys):
            raise BadKeyFileError(path, "it holds no key, or keys of another kind")
        return cls(trusted)

    def verify(self, fields: Mapping[str, Any], signature: str) -> None:
        """Raises BadSignatureError unless one of the trusted keys signed these fields (`signature` itself left out)."""
        try:
            raw = base64.b64decode(signature, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadSignatureError("it is not base64") from error
        try:
            data = _signed_bytes(fields)
        except NotCanonicalError as error:
            raise BadSignatureError(f"nobody can have signed this: {error}") from error
        if not any(_signed_by(key, raw, data) for key in self._keys):
            raise BadSignatureError("none of the trusted keys made it for this content")

    def check(self, fields: Mapping[str, Any]) -> None:
        """As `verify`, with the signature that stands among the fields."""
        signature = fields.get(SIGNATURE)
        if not isinstance(signature, str):
            raise BadSignatureError("there is none")
        self.verify(fields, signature)


def make_key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Write `<name>.private.pem` (readable by its owner alone) and `<name>.public.pem`. Raises KeyFileExistsError."""
    folder.mkdir(parents=True, exist_ok=True)
    signer = Signer.generate()
    private, public = folder / f"{name}.private.pem", folder / f"{name}.public.pem"
    _write_new(private, signer.private_pem(), 0o600)
    _write_new(public, signer.public_pem(), 0o644)
    return private, public


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise KeyFileExistsError(path) from error
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _signed_bytes(fields: Mapping[str, Any]) -> bytes:
    return canonical({name: value for name, value in fields.items() if name != SIGNATURE})


def _signed_by(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True
