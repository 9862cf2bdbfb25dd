"""A bucket and its folder show the same objects, whoever wrote them: Google's client here, files there."""

import base64
import hashlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from google.api_core import exceptions
from google.cloud.storage import Bucket, Client

from infra.local import confined
from tests.contract.storage_rig import Store, running_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_store(tmp_path_factory.mktemp("storage")) as store:
        yield store


@pytest.fixture
def client(store: Store) -> Client:
    return store.client


@pytest.fixture
def made(store: Store) -> tuple[Bucket, Path]:
    return store.bucket(f"b{uuid.uuid4().hex[:10]}")


def names(bucket: Bucket, **query: str) -> list[str]:
    return [blob.name for blob in bucket.list_blobs(**query)]


def test_a_file_is_an_object_in_listings_and_reads(made: tuple[Bucket, Path]) -> None:
    bucket, folder = made
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/täble.csv").write_text("a,b\n")
    (folder / "top.bin").write_bytes(b"123")
    assert names(bucket) == ["deep/er/täble.csv", "top.bin"]
    blob = bucket.get_blob("deep/er/täble.csv")
    assert (blob.size, blob.content_type) == (4, "text/csv")
    assert blob.md5_hash == base64.b64encode(hashlib.md5(b"a,b\n", usedforsecurity=False).digest()).decode()
    assert blob.download_as_bytes() == b"a,b\n"
    assert bucket.blob("top.bin").download_as_bytes(start=1, end=1) == b"2"
    assert not bucket.blob("none").exists()


def test_an_object_is_a_file(made: tuple[Bucket, Path]) -> None:
    bucket, folder = made
    bucket.blob("a/b c%2F.txt").upload_from_string("hello")
    assert (folder / "a/b c%2F.txt").read_text() == "hello"
    bucket.blob("a/b c%2F.txt").upload_from_string("again")
    assert (folder / "a/b c%2F.txt").read_text() == "again"
    bucket.blob("a/b c%2F.txt").delete()
    assert not (folder / "a/b c%2F.txt").exists()
    assert names(bucket) == []


def test_a_large_object_comes_in_pieces(made: tuple[Bucket, Path]) -> None:
    bucket, folder = made
    content = os.urandom(9 << 20)
    blob = bucket.blob("large")
    blob.chunk_size = 1 << 20
    blob.upload_from_string(content)
    assert (folder / "large").read_bytes() == content
    assert bucket.blob("large").download_as_bytes() == content


def test_what_a_session_changes_is_read_as_it_is_then(made: tuple[Bucket, Path]) -> None:
    bucket, folder = made
    blob = bucket.blob("note.txt")
    blob.metadata = {"team": "x"}
    blob.upload_from_string("before", content_type="text/plain")
    first = bucket.get_blob("note.txt")
    (folder / "note.txt").write_text("afterwards")
    assert bucket.blob("note.txt").download_as_bytes() == b"afterwards"
    second = bucket.get_blob("note.txt")
    assert (second.size, second.content_type, second.metadata) == (10, "text/plain", {"team": "x"})
    assert second.generation > first.generation
    assert second.md5_hash != first.md5_hash
    draft = folder / "draft"
    draft.write_text("renamed over it")
    draft.rename(folder / "note.txt")
    assert bucket.blob("note.txt").download_as_bytes() == b"renamed over it"
    (folder / "note.txt").unlink()
    assert names(bucket) == []
    assert not bucket.blob("note.txt").exists()


def test_a_client_may_replace_copy_compose_describe_and_delete_what_a_session_wrote(made: tuple[Bucket, Path]) -> None:
    bucket, folder = made
    for name in ("one", "two"):
        (folder / name).write_text(name)
    bucket.copy_blob(bucket.blob("one"), bucket, "copies/one")
    assert (folder / "copies/one").read_text() == "one"
    bucket.blob("both").compose([bucket.blob("one"), bucket.blob("two")])
    assert (folder / "both").read_text() == "onetwo"
    blob = bucket.get_blob("one")
    blob.metadata = {"a": "b"}
    blob.patch()
    assert bucket.get_blob("one").metadata == {"a": "b"}
    bucket.blob("one").upload_from_string("new")
    assert (folder / "one").read_text() == "new"
    bucket.delete_blob("two")
    assert names(bucket) == ["both", "copies/one", "one"]


def test_listings_know_prefixes_delimiters_offsets_and_pages(made: tuple[Bucket, Path]) -> None:
    bucket, folder = made
    for name in ("a/1", "a/2", "a/b/3", "ab", "c/4", "d"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    assert names(bucket, prefix="a/") == ["a/1", "a/2", "a/b/3"]
    assert names(bucket, prefix="a") == ["a/1", "a/2", "a/b/3", "ab"]
    assert names(bucket, start_offset="a/b", end_offset="d") == ["a/b/3", "ab", "c/4"]
    found = bucket.list_blobs(delimiter="/")
    assert [blob.name for blob in found] == ["ab", "d"]
    assert found.prefixes == {"a/", "c/"}
    found = bucket.list_blobs(prefix="a/", delimiter="/", page_size=1)
    assert [blob.name for blob in found] == ["a/1", "a/2"]
    assert found.prefixes == {"a/b/"}
    pages = list(bucket.list_blobs(page_size=4).pages)
    assert [[blob.name for blob in page] for page in pages] == [["a/1", "a/2", "a/b/3", "ab"], ["c/4", "d"]]
    with pytest.raises(exceptions.BadRequest, match="matchGlob"):
        names(bucket, match_glob="*.txt")


def test_links_pipes_and_empty_folders_are_no_objects_and_go_with_the_bucket(
    made: tuple[Bucket, Path], tmp_path: Path
) -> None:
    bucket, folder = made
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("s3cret")
    (folder / "link").symlink_to(secret / "key")
    (folder / "folder").symlink_to(secret)
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    (folder / "empty").mkdir()
    (folder / os.fsdecode(b"not-\xff-utf8")).touch()
    (folder / "real").write_text("x")
    assert names(bucket) == ["real"]
    assert names(bucket, prefix="folder/") == []
    for name in ("link", "folder/key", "pipe", "../secret", "empty"):
        assert not bucket.blob(name).exists(), name
        with pytest.raises(exceptions.NotFound):
            bucket.blob(name).download_as_bytes()
    with pytest.raises(exceptions.Conflict):
        bucket.delete()
    assert (folder / "pipe").exists()
    bucket.blob("real").delete()
    bucket.delete()
    assert not folder.exists()
    assert (secret / "key").read_text() == "s3cret"


@pytest.mark.skipif(not confined.is_possible(), reason="this kernel has no Landlock")
def test_an_upload_follows_no_link_out_of_the_bucket(made: tuple[Bucket, Path], tmp_path: Path) -> None:
    bucket, folder = made
    (folder / "results").symlink_to(tmp_path)
    with pytest.raises(exceptions.GoogleAPIError):
        bucket.blob("results/authorized_keys").upload_from_string("x")
    assert list(tmp_path.iterdir()) == []


def test_an_object_cannot_lie_below_another_one(made: tuple[Bucket, Path]) -> None:
    bucket, _ = made
    bucket.blob("a").upload_from_string("x")
    with pytest.raises(exceptions.BadRequest):
        bucket.blob("a/b").upload_from_string("x", retry=None)


@pytest.mark.parametrize("forged", [b"{}", b"[1]", b'{"Generation": "x"}', b"\xff", b'{"Metadata": 1}'])
def test_a_description_that_a_session_forged_is_not_believed(made: tuple[Bucket, Path], forged: bytes) -> None:
    bucket, folder = made
    (folder / "x").write_text("real")
    status = (folder / "x").stat()
    os.setxattr(folder / "x", "user.metadata", forged)
    os.setxattr(folder / "x", "user.onmemos.described", f"{status.st_mtime_ns} {status.st_size}".encode())
    assert names(bucket) == ["x"]
    assert bucket.blob("x").download_as_bytes() == b"real"


def test_a_bucket_that_does_not_exist_is_not_found(store: Store, client: Client) -> None:
    with pytest.raises(exceptions.NotFound):
        list(client.list_blobs("no-such-bucket"))
    for path in ("/storage/v1/b/../o", "/storage/v1/b/%2e%2e/o", "/storage/v1/b/x%2fy/o", "/storage/v1/b//o"):
        assert httpx.get(f"{store.url}{path}").status_code in {400, 404}, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_is_written_belongs_to_whom_the_folder_was_given(made: tuple[Bucket, Path]) -> None:
    bucket, folder = made
    os.chown(folder, 54_321, 54_321)
    bucket.blob("a/b/c").upload_from_string("x")
    (folder / "own").write_text("y")
    bucket.copy_blob(bucket.blob("own"), bucket, "copies/own")
    theirs = [folder / part for part in ("a", "a/b", "a/b/c", "copies", "copies/own")]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in theirs} == {(54_321, 54_321)}


def test_the_server_reaches_nothing_but_its_folders(tmp_path: Path) -> None:
    buckets, uploads = tmp_path / "buckets", tmp_path / "uploads"
    for folder in (buckets, uploads):
        folder.mkdir()
    (tmp_path / "secret").write_text("s3cret")
    script = "echo in > {0}/x; mv {0}/x {1}/y; cat {1}/y; cat {2}; echo out > {3}; true"
    command = script.format(uploads, buckets, tmp_path / "secret", tmp_path / "out")
    argv = (sys.executable, "-I", "-S", confined.__file__, str(buckets), str(uploads), "--", "/bin/sh", "-c", command)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    if sys.platform != "linux" or not confined.is_possible():
        pytest.skip("this kernel has no Landlock")
    assert done.stdout == "in\n"
    assert done.stderr.count("denied") == 2
    assert not (tmp_path / "out").exists()
