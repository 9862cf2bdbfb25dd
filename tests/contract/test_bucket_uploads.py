"""Resumable uploads as Cloud Storage has them: in parts, gone on with where they broke off, whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.api_core import exceptions
from google.cloud.storage import Blob

from tests.contract.agent.rig import NO_TLS
from tests.contract.storage_rig import Store, running_store

PART = 256 << 10


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with running_store(tmp_path_factory.mktemp("storage")) as store:
        yield store


@pytest.fixture
def folder(store: Store) -> Path:
    """A new bucket's."""
    return store.bucket(f"b{uuid.uuid4().hex[:10]}")[1]


def begun(store: Store, folder: Path, document: dict[str, Any], **query: str) -> str:
    """Where the upload goes on."""
    path = f"{store.url}/upload/storage/v1/b/{folder.name}/o"
    answer = httpx.post(path, verify=NO_TLS, params={"uploadType": "resumable", **query}, json=document)
    assert answer.status_code == 200
    return answer.headers["Location"]


def sent(where: str, content: bytes, content_range: str | None, **headers: str) -> httpx.Response:
    given = {"Content-Range": f"bytes {content_range}"} if content_range else {}
    return httpx.put(where, verify=NO_TLS, content=content, headers={**given, **headers})


def test_parts_are_put_together_and_the_object_is_there_at_the_end(store: Store, folder: Path) -> None:
    content = os.urandom(2 * PART + 5)
    where = begun(store, folder, {"name": "a/b", "contentType": "text/x", "metadata": {"k": "v"}})
    assert sent(where, b"", "*/*").headers.get("Range") is None
    answer = sent(where, content[:PART], f"0-{PART - 1}/*")
    assert (answer.status_code, answer.headers["Range"]) == (308, f"bytes=0-{PART - 1}")
    assert list(folder.iterdir()) == []
    again = sent(where, content[: 2 * PART], f"0-{2 * PART - 1}/*")
    assert again.headers["Range"] == f"bytes=0-{2 * PART - 1}"
    assert sent(where, content, f"{2 * PART + 1}-{len(content)}/*").status_code == 400
    made = sent(where, content[2 * PART :], f"{2 * PART}-{len(content) - 1}/{len(content)}")
    assert made.status_code == 200
    assert (folder / "a/b").read_bytes() == content
    blob: Blob = store.client.bucket(folder.name).get_blob("a/b")
    assert (blob.size, blob.content_type, blob.metadata) == (len(content), "text/x", {"k": "v"})
    assert (blob.crc32c, blob.md5_hash) == (made.json()["crc32c"], made.json()["md5Hash"])
    assert str(blob.generation) == made.json()["generation"]
    assert blob.download_as_bytes() == content
    assert sent(where, b"", "*/*").status_code == 404


@pytest.mark.parametrize("content_range", [None, "0-2/3"])
def test_one_part_may_be_all(store: Store, folder: Path, content_range: str | None) -> None:
    assert sent(begun(store, folder, {}, name="x"), b"abc", content_range).status_code == 200
    assert (folder / "x").read_bytes() == b"abc"


def test_no_bytes_are_an_object_too(store: Store, folder: Path) -> None:
    assert sent(begun(store, folder, {"name": "x"}), b"", "*/0").status_code == 200
    assert store.client.bucket(folder.name).get_blob("x").size == 0


def test_an_upload_that_is_cancelled_is_nothing(store: Store, folder: Path) -> None:
    where = begun(store, folder, {"name": "x"})
    sent(where, bytes(PART), f"0-{PART - 1}/*")
    assert httpx.delete(where, verify=NO_TLS).status_code == 499
    assert sent(where, b"", "*/*").status_code == 404
    assert list(folder.iterdir()) == []


def test_other_content_than_was_said_is_refused(store: Store, folder: Path) -> None:
    wrong = {"X-Goog-Hash": "crc32c=AAAAAA==,md5=AAAAAAAAAAAAAAAAAAAAAA=="}
    assert sent(begun(store, folder, {"name": "x"}), b"abc", "0-2/3", **wrong).status_code == 400
    assert sent(begun(store, folder, {"name": "x", "crc32c": "AAAAAA=="}), b"abc", "0-2/3").status_code == 400
    assert list(folder.iterdir()) == []


def test_generations_are_preconditions(store: Store, folder: Path) -> None:
    made = sent(begun(store, folder, {"name": "x"}, ifGenerationMatch="0"), b"one", "0-2/3")
    assert made.status_code == 200
    assert sent(begun(store, folder, {"name": "x"}, ifGenerationMatch="0"), b"two", "0-2/3").status_code == 412
    assert (folder / "x").read_bytes() == b"one"
    generation = made.json()["generation"]
    assert sent(begun(store, folder, {"name": "x"}, ifGenerationMatch=generation), b"two", "0-2/3").status_code == 200
    bucket = store.client.bucket(folder.name)
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("x").download_as_bytes(if_generation_match=int(generation))
    current = bucket.get_blob("x")
    assert current.download_as_bytes(if_generation_match=current.generation) == b"two"


def test_nothing_is_written_through_a_link_or_below_a_file(store: Store, folder: Path, tmp_path: Path) -> None:
    (folder / "link").symlink_to(tmp_path)
    (folder / "file").write_text("file")
    (folder / "to-file").symlink_to(tmp_path / "outside")
    for name in ("link/x", "file/x", "link"):
        answer = sent(begun(store, folder, {"name": name}), b"abc", "0-2/3")
        assert answer.status_code in {200, 400}
    assert sent(begun(store, folder, {"name": "to-file"}), b"abc", "0-2/3").status_code == 200
    assert list(tmp_path.iterdir()) == []
    assert (folder / "file").read_text() == "file"
    assert (folder / "to-file").read_text() == "abc"


def test_what_is_not_known_here_is_the_servers(store: Store, folder: Path) -> None:
    where = begun(store, folder, {"name": "x", "storageClass": "NEARLINE"})
    assert "onmemos-" not in where
    assert sent(where, b"abc", "0-2/3").status_code == 200
    assert (folder / "x").read_bytes() == b"abc"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_object_is_the_buckets_owners(store: Store, folder: Path) -> None:
    os.chown(folder, 54_321, 54_321)
    sent(begun(store, folder, {"name": "a/b"}), b"abc", "0-2/3")
    assert {(folder / name).stat().st_uid for name in ("a", "a/b")} == {54_321}
