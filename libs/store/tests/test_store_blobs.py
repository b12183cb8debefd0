"""One suite over every implementation of `Blobs`, then what only a disk or a bucket can do wrong."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimtab.store.blobs import Blobs, BlobStore, MemoryBlobs, digest_of
from trimtab.store.errors import (
    BadDigestError,
    BadStoreUrlError,
    BlobDamagedError,
    BlobMissingError,
    StoreUnreachableError,
)
from trimtab.testing.bucket import State, bucket

NOTHING = "0" * 64


@pytest.fixture(params=["memory", "folder"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return MemoryBlobs() if request.param == "memory" else BlobStore(f"file://{tmp_path}/a/store")


def test_what_was_put_is_got_by_its_sha256(blobs: Blobs) -> None:
    digest = blobs.put(b"abc")
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert blobs.get(digest) == b"abc"
    assert blobs.has(digest)


def test_putting_again_changes_nothing(blobs: Blobs) -> None:
    assert blobs.put(b"abc") == blobs.put(b"abc")
    assert blobs.get(digest_of(b"abc")) == b"abc"


def test_an_empty_blob_is_a_blob(blobs: Blobs) -> None:
    assert blobs.get(blobs.put(b"")) == b""


def test_a_missing_blob_says_where_it_was_looked_for(blobs: Blobs) -> None:
    assert not blobs.has(NOTHING)
    with pytest.raises(BlobMissingError, match="TRIMTAB_STORE__URL") as caught:
        blobs.get(NOTHING)
    assert caught.value.digest == NOTHING


@pytest.mark.parametrize(
    "digest", ["", "abc", "../../etc/passwd", NOTHING.replace("0", "A"), NOTHING + "\n", NOTHING + "0"]
)
def test_what_is_no_digest_never_becomes_a_path(blobs: Blobs, digest: str) -> None:
    with pytest.raises(BadDigestError):
        blobs.get(digest)
    with pytest.raises(BadDigestError):
        blobs.has(digest)


def test_many_writers_of_one_blob_agree(blobs: Blobs) -> None:
    data = b"x" * 300_000
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(blobs.put, [data] * 32))
    assert digests == {digest_of(data)}
    assert blobs.get(digests.pop()) == data


@given(st.binary(max_size=2000))
def test_any_bytes_come_back(data: bytes) -> None:
    blobs = MemoryBlobs()
    assert blobs.get(blobs.put(data)) == data


def test_a_blob_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    blobs = BlobStore(f"file://{tmp_path}")
    digest = blobs.put(b"abc")
    (tmp_path / digest).write_bytes(b"abd")
    with pytest.raises(BlobDamagedError) as caught:
        blobs.get(digest)
    assert caught.value.found == digest_of(b"abd")


def test_a_blob_that_lost_its_tail_is_replaced_by_the_next_put(tmp_path: Path) -> None:
    blobs = BlobStore(f"file://{tmp_path}")
    digest = blobs.put(b"abc")
    (tmp_path / digest).write_bytes(b"")
    blobs.put(b"abc")
    assert blobs.get(digest) == b"abc"


def test_another_process_finds_the_blobs(tmp_path: Path) -> None:
    digest = BlobStore(f"file://{tmp_path}").put(b"abc")
    assert BlobStore(f"file://{tmp_path}/").get(digest) == b"abc"


def test_a_folder_with_a_space_in_its_url(tmp_path: Path) -> None:
    BlobStore(f"file://{tmp_path}/a%20b").put(b"abc")
    assert [path.name for path in (tmp_path / "a b").iterdir()] == [digest_of(b"abc")]


@pytest.mark.parametrize(
    "url",
    ["", "blobs", "file://", "file:///", "file://host/path", "ftp://host/x", "s3://", "memory:///", "https://host/x"],
)
def test_a_url_that_names_no_store(url: str) -> None:
    with pytest.raises(BadStoreUrlError, match=r"file:///a/folder or s3://bucket/prefix"):
        BlobStore(url)


def test_an_unknown_setting_of_a_bucket() -> None:
    with pytest.raises(BadStoreUrlError, match="endpoit"):
        BlobStore("s3://bucket/models", {"endpoit": "http://127.0.0.1:1"})


def test_a_bucket_that_does_not_answer() -> None:
    options = {"endpoint": "http://127.0.0.1:9", "access_key_id": "a", "secret_access_key": "b"}
    blobs = BlobStore("s3://bucket/models", options, retries=0)
    with pytest.raises(StoreUnreachableError, match="credentials and the network"):
        blobs.get(NOTHING)


def test_a_bucket_that_the_usual_variables_describe(monkeypatch: pytest.MonkeyPatch) -> None:
    with bucket(monkeypatch.setenv) as made:
        blobs = BlobStore("s3://bucket/models", retries=0)
        blobs.put(b"abc")
        blobs.put(b"abc")
        assert blobs.get(digest_of(b"abc")) == b"abc"
        assert made.kept == {f"/bucket/models/{digest_of(b'abc')}": b"abc"}
        assert (blobs.has(digest_of(b"abc")), blobs.has(NOTHING)) == (True, False)
        with pytest.raises(BlobMissingError):
            blobs.get(NOTHING)


@pytest.mark.parametrize("state", ["unavailable", "silent", "cut", "answer lost"])
def test_a_bucket_that_is_away_says_so_and_takes_the_same_blob_once_it_is_back(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bucket(monkeypatch.setenv) as made:
        blobs = BlobStore("s3://bucket/models", retries=1)
        blobs.put(b"old")
        made.state = state
        with pytest.raises(StoreUnreachableError, match="credentials and the network"):
            blobs.put(b"new")
        with pytest.raises(StoreUnreachableError):
            blobs.get(digest_of(b"old"))
        made.state = "serving"
        assert blobs.put(b"new") == digest_of(b"new")
        assert [blobs.get(digest_of(data)) for data in (b"old", b"new")] == [b"old", b"new"]


def child(code: str, folder: Path) -> str:
    """What a process of its own prints: limits and users cannot be changed back in this one."""
    head = (
        "import os, resource, signal\nfrom trimtab.store.blobs import BlobStore\nfrom trimtab.store.errors import *\n"
    )
    done = subprocess.run([sys.executable, "-c", head + code, str(folder)], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("size", [5_000, 20_000_000])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, size: int) -> None:
    code = f"""
import sys
blobs = BlobStore("file://" + sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    blobs.put(b"x" * {size})
except StoreFullError as error:
    print(error.size, os.listdir(sys.argv[1]), error)
"""
    assert f"{size} [] file://{tmp_path} has no room for {size} bytes" in child(code, tmp_path)


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    code = """
import sys
blobs = BlobStore("file://" + sys.argv[1])
if os.getuid() == 0:
    os.setuid(65534)
try:
    blobs.put(b"abc")
except StoreReadOnlyError as error:
    print(error)
"""
    assert "give this process's user write permission" in child(code, tmp_path)
    assert list(tmp_path.iterdir()) == []
