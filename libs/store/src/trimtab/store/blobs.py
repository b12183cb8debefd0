"""Blobs by content digest: models, datasets, originals of quarantined events."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, S3Store

from trimtab.store.errors import (
    BadDigestError,
    BadStoreUrlError,
    BlobDamagedError,
    BlobMissingError,
    StoreError,
    StoreFullError,
    StoreReadOnlyError,
    StoreUnreachableError,
)

if TYPE_CHECKING:  # obstore has these names in its stubs alone
    from obstore.store import ClientConfig, S3Config

DIGEST = re.compile(r"[0-9a-f]{64}")
OS_ERROR = re.compile(r"\(os error (\d+)\)")
NO_ROOM = frozenset({27, 28, 122})
"""EFBIG, ENOSPC, EDQUOT."""
NO_ACCESS = frozenset({1, 13, 30})
"""EPERM, EACCES, EROFS."""


class Blobs(Protocol):
    """What services ask of a store. Implementations: `BlobStore`, `MemoryBlobs`."""

    def put(self, data: bytes) -> str:
        """Keep the bytes; gives their digest. Putting the same bytes again changes nothing.

        Raises StoreReadOnlyError, StoreFullError, StoreUnreachableError; then nothing is visible under the digest.
        """
        ...

    def get(self, digest: str) -> bytes:
        """The bytes with this digest, verified.

        Raises BadDigestError, BlobMissingError, BlobDamagedError, StoreUnreachableError.
        """
        ...

    def has(self, digest: str) -> bool:
        """Whether something stands under this digest; says nothing of its integrity. Raises BadDigestError."""
        ...


def digest_of(data: bytes) -> str:
    """The name of a blob: its SHA-256, lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def checked(digest: str) -> str:
    """The digest itself. Raises BadDigestError, so that no text from outside ever becomes a path."""
    if not DIGEST.fullmatch(digest):
        raise BadDigestError(digest)
    return digest


def verified(digest: str, data: bytes, url: str) -> bytes:
    """The data itself. Raises BlobDamagedError where it does not have the digest."""
    found = digest_of(data)
    if found != digest:
        raise BlobDamagedError(digest, found, url)
    return data


class MemoryBlobs:
    """Blobs of one process, for backtests and tests."""

    url = "memory:"

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        digest = digest_of(data)
        self._blobs.setdefault(digest, bytes(data))
        return digest

    def get(self, digest: str) -> bytes:
        data = self._blobs.get(checked(digest))
        if data is None:
            raise BlobMissingError(digest, self.url)
        return verified(digest, data, self.url)

    def has(self, digest: str) -> bool:
        return checked(digest) in self._blobs


class BlobStore:
    """Blobs in a local folder (`file:///…`, made when missing) or in a bucket (`s3://bucket/prefix`).

    A blob appears under its digest in one step (a hard link of a complete file; a conditional put), never half-written.
    `options` are S3 settings (`endpoint`, `region`, `access_key_id`, …); those left out are taken from
    the usual AWS_* variables by the S3 client itself, which asks `retries` times more after an error. Calls block;
    on an event loop, run them in a thread.
    """

    def __init__(self, url: str, options: Mapping[str, str] | None = None, *, retries: int = 5) -> None:
        self.url = url.rstrip("/")
        self._folder, self._store = _open(self.url, options or {}, retries)

    def put(self, data: bytes) -> str:
        """See `Blobs.put`. A damaged blob of another length (a disk that lost its tail) is replaced."""
        digest = digest_of(data)
        try:
            obstore.put(self._store, digest, data, mode="create")
        except AlreadyExistsError:
            self._heal(digest, data)
        except (BaseError, OSError) as error:
            raise self._typed(error, len(data)) from error
        self._sync(digest)
        return digest

    def get(self, digest: str) -> bytes:
        try:
            data = bytes(obstore.get(self._store, checked(digest)).bytes())
        except FileNotFoundError as error:
            raise BlobMissingError(digest, self.url) from error
        except (BaseError, OSError) as error:
            raise self._typed(error, 0) from error
        return verified(digest, data, self.url)

    def has(self, digest: str) -> bool:
        try:
            obstore.head(self._store, checked(digest))
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as error:
            raise self._typed(error, 0) from error
        return True

    def _heal(self, digest: str, data: bytes) -> None:
        try:
            if obstore.head(self._store, digest)["size"] != len(data):
                obstore.put(self._store, digest, data, mode="overwrite")
        except (BaseError, OSError) as error:
            raise self._typed(error, len(data)) from error

    def _sync(self, digest: str) -> None:
        """Flush a local blob to the disk: an event that names it must not survive a power cut that it does not."""
        if self._folder is None:
            return
        for path in (self._folder / digest, self._folder):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _typed(self, error: Exception, size: int) -> StoreError:
        reason = str(error).split("\n\n", 1)[0]
        found = OS_ERROR.search(reason)
        code = int(found[1]) if found else getattr(error, "errno", None)
        if code in NO_ROOM:
            return StoreFullError(self.url, size, reason)
        if code in NO_ACCESS or isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError):
            return StoreReadOnlyError(self.url, reason)
        return StoreUnreachableError(self.url, reason)


def _open(url: str, options: Mapping[str, str], retries: int) -> tuple[Path | None, LocalStore | S3Store]:
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.strip("/"):
        return _open_folder(url, Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return None, _open_bucket(url, options, retries)
    raise BadStoreUrlError(
        url, "its scheme or its path is missing" if not parts.scheme else "nothing serves that scheme and path"
    )


def _open_bucket(url: str, options: Mapping[str, str], retries: int) -> S3Store:
    plain: ClientConfig | None = {"allow_http": True} if options.get("endpoint", "").startswith("http://") else None
    config = cast("S3Config", dict(options))  # the client checks the names
    try:
        # options of any kind, even none of them, would take the place of AWS_ALLOW_HTTP and its like
        return S3Store.from_url(url, config=config, client_options=plain, retry_config={"max_retries": retries})
    except BaseError as error:
        raise BadStoreUrlError(url, str(error).split("\n\n", 1)[0]) from error


def _open_folder(url: str, folder: Path) -> tuple[Path, LocalStore]:
    try:
        return folder, LocalStore(folder, mkdir=True)
    except (GenericError, PermissionDeniedError, OSError) as error:
        raise StoreReadOnlyError(url, str(error).split("\n\n", 1)[0]) from error
