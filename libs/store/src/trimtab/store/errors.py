"""Everything that can go wrong with blobs, keys and signatures."""

from pathlib import Path


class StoreError(Exception):
    """Root of this package's errors."""


class BlobMissingError(StoreError):
    """No blob has this digest."""

    def __init__(self, digest: str, url: str) -> None:
        self.digest, self.url = digest, url
        super().__init__(
            f"no blob {digest} in {url}: check that every service uses the same TRIMTAB_STORE__URL, "
            "or that the blob was not deleted"
        )


class BlobDamagedError(StoreError):
    """The bytes that stand under a digest have another digest."""

    def __init__(self, digest: str, found: str, url: str) -> None:
        self.digest, self.found, self.url = digest, found, url
        super().__init__(
            f"the blob {digest} in {url} is damaged (its bytes have the digest {found}): "
            "delete it and put it again, or restore it from a backup"
        )


class BadDigestError(StoreError):
    """Not the lower-case hexadecimal form of a SHA-256."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"{text!r} is no blob digest: it has to be 64 lower-case hexadecimal digits (SHA-256)")


class StoreReadOnlyError(StoreError):
    """The store may be read but not written (or not even read) by this process."""

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(f"{url} refuses access ({reason}): give this process's user write permission there")


class StoreFullError(StoreError):
    """No space left, or a quota is used up."""

    def __init__(self, url: str, size: int, reason: str) -> None:
        self.url, self.size, self.reason = url, size, reason
        super().__init__(f"{url} has no room for {size} bytes ({reason}): free some space or raise the quota")


class StoreUnreachableError(StoreError):
    """The store did not answer as a store would."""

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(f"{url} cannot be used ({reason}): check the address, the credentials and the network")


class BadStoreUrlError(StoreError):
    """A url that names no store."""

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(f"{url!r} is no store: {reason}; use file:///a/folder or s3://bucket/prefix")


class BadKeyFileError(StoreError):
    """A key file that is missing, unreadable or holds something else."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"{path}: {reason}; it has to hold an Ed25519 key in PEM form (`trimtab keys make` writes a pair)"
        )


class KeyFileExistsError(StoreError):
    """A key pair is never overwritten: what it has signed could no longer be verified."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} exists and is not overwritten: choose another folder, or move the old key away first")


class BadSignatureError(StoreError):
    """The signature is missing, malformed, or not by any of the trusted keys."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"signature refused: {reason}")


class NotCanonicalError(StoreError):
    """A value that has no canonical JSON form."""

    def __init__(self, value: object) -> None:
        self.value = value
        super().__init__(
            f"{value!r} has no canonical JSON form: only finite numbers, text, booleans, null, lists, objects"
        )


class DatabaseAwayError(StoreError):
    """The database did not do what was asked: it is away, restarting, full or locked. Nothing was changed."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the database cannot be used now ({reason}): it is asked again")


class BadDatabaseUrlError(StoreError):
    """A database url of a kind that is not supported."""

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(
            f"{url!r} is no usable database: {reason}; use sqlite:///a/file.db or postgresql+psycopg://user:password@host/name"
        )
