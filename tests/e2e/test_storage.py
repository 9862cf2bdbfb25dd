"""Buckets and shares in sessions: what a session writes is an object, an object is a file, and what stays stays."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Bucket
from google.cloud.storage import Client as Storage

from infra.local.stack import Stack
from sdk.python.client import OnMemOSClient
from sdk.python.errors import BadRequest
from tests.e2e.remains import Remains, is_gone, until

ROOT = Path(__file__).parents[2]

Session = dict[str, Any]


@pytest.fixture
def client(stack: Stack) -> Iterator[OnMemOSClient]:
    with OnMemOSClient(stack.base_url, stack.api_key) as client:
        yield client


@pytest.fixture
def mark() -> str:
    return f"m{uuid.uuid4().hex[:8]}"


@pytest.fixture
def storage(stack: Stack) -> Storage:
    options = {"api_endpoint": stack.environment["STORAGE_EMULATOR_HOST"]}
    project = stack.environment["GOOGLE_CLOUD_PROJECT"]
    return Storage(project, credentials=AnonymousCredentials(), client_options=options)


@pytest.fixture
def bucket(storage: Storage, mark: str) -> Iterator[Bucket]:
    """One that no session made."""
    bucket = storage.create_bucket(f"datasets-{mark}")
    yield bucket
    bucket.delete_blobs(list(bucket.list_blobs()))
    bucket.delete()


@pytest.fixture
def session_with(client: OnMemOSClient, mark: str) -> Callable[..., Any]:
    """`with session_with(bucket=…) as session:` it runs, and is deleted at the end."""

    @contextmanager
    def opened(**asked: Any) -> Iterator[Session]:
        session: Any = client.create_session({"namespace": mark, "user": "dev", "storage": asked}, wait=60)
        try:
            assert session["status"] == "running", session
            yield session
        finally:
            client.delete_session(session["id"])
            until(lambda: is_gone(client, session["id"]), "the session is gone")

    return opened


@pytest.fixture
def sh(client: OnMemOSClient) -> Callable[[Session, str], str]:
    """Run a command in a session that must succeed; what it printed."""

    def run(session: Session, command: str) -> str:
        return client.execute_session(session["id"], command, check=True)["stdout"]

    return run


def names(bucket: Bucket) -> list[str]:
    return [str(blob.name) for blob in bucket.list_blobs()]


def reconcile(stack: Stack) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "infra.reconcile"],
        cwd=ROOT, env={**os.environ, **stack.environment}, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def test_the_sessions_own_bucket_shows_the_same_on_both_sides(storage: Storage, session_with: Any, sh: Any) -> None:
    with session_with() as session:
        bucket = storage.bucket(session["details"]["bucket_name"])
        sh(session, "mkdir -p /data/out && echo from-the-session > /data/out/result.txt")
        assert names(bucket) == ["out/result.txt"]
        assert bucket.blob("out/result.txt").download_as_text() == "from-the-session\n"

        bucket.blob("in/deep/question.txt").upload_from_string("from-the-client")
        assert sh(session, "cat /data/in/deep/question.txt") == "from-the-client"
        sh(session, "echo answered > /data/in/deep/question.txt")
        assert bucket.blob("in/deep/question.txt").download_as_text() == "answered\n"
        sh(session, "echo beside > /data/in/deep/beside; mv /data/in/deep/question.txt /data/in/done.txt")
        assert names(bucket) == ["in/deep/beside", "in/done.txt", "out/result.txt"]

        bucket.blob("out/result.txt").upload_from_string("replaced")
        assert sh(session, "cat /data/out/result.txt") == "replaced"
        bucket.blob("out/result.txt").delete()
        assert sh(session, "ls /data/out") == ""
        sh(session, "rm -r /data/in")
        assert names(bucket) == []


def test_a_bucket_goes_with_its_session_whatever_is_in_it(stack: Stack, mark: str, session_with: Any, sh: Any) -> None:
    with session_with() as session:
        sh(session, "cd /data; mkdir -p a/b empty; touch a/b/c; ln -s / root; mkfifo pipe; chmod 000 a/b/c a/b empty a")
    remains = Remains(stack, mark)
    until(lambda: not remains.found(), "nothing is left")


def test_an_existing_bucket_is_mounted_with_what_is_in_it_and_never_deleted(
    bucket: Bucket, session_with: Any, sh: Any
) -> None:
    bucket.blob("before/start.csv").upload_from_string("1,2\n")
    with session_with(bucket=bucket.name, mount_path="/in/put") as session:
        assert session["storage"] == {"bucket": bucket.name, "mount_path": "/in/put", "keep": True, "filestore": None}
        assert session["details"]["bucket_name"] == bucket.name
        assert sh(session, "echo $BUCKET_NAME; cat /in/put/before/start.csv") == f"{bucket.name}\n1,2\n"
        sh(session, "echo 3,4 >> /in/put/before/start.csv && test ! -e /data")
        with session_with(bucket=bucket.name) as other:
            assert sh(other, "cat /data/before/start.csv") == "1,2\n3,4\n"
            sh(other, "echo 5,6 >> /data/before/start.csv; rm -f /data/none")
        assert sh(session, "cat /in/put/before/start.csv && rm /in/put/before/start.csv") == "1,2\n3,4\n5,6\n"
        sh(session, "echo done > /in/put/state")
    assert names(bucket) == ["state"]


def test_a_bucket_that_is_kept_outlives_its_session_and_is_mounted_again(
    stack: Stack, storage: Storage, session_with: Any, sh: Any
) -> None:
    with session_with(keep=True) as session:
        name = session["details"]["bucket_name"]
        sh(session, "echo precious > /data/model.bin")
    until(lambda: not Remains(stack, session["id"]).found(), "the session's resources are gone")
    assert name not in reconcile(stack)
    bucket = storage.bucket(name)
    assert bucket.blob("model.bin").download_as_text() == "precious\n"
    with session_with(bucket=name) as later:
        assert sh(later, "cat /data/model.bin") == "precious\n"
    assert bucket.exists()
    bucket.delete(force=True)


def test_another_sessions_bucket_cannot_be_mounted(client: OnMemOSClient, mark: str, session_with: Any) -> None:
    with session_with() as session:
        name = session["details"]["bucket_name"]
        with pytest.raises(BadRequest, match=r"another session") as refusal:
            client.create_session({"namespace": mark, "user": "thief", "storage": {"bucket": name}})
        assert list(refusal.value.errors) == ["storage.bucket"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"bucket": "no-such-bucket"}, "storage.bucket"),
        ({"bucket": "No Bucket"}, "storage.bucket"),
        ({"bucket": "../state"}, "storage.bucket"),
        ({"mount_path": "data"}, "storage.mount_path"),
        ({"mount_path": "/"}, "storage.mount_path"),
        ({"mount_path": "/etc/cron.d"}, "storage.mount_path"),
        ({"mount_path": "/workspace"}, "storage.mount_path"),
        ({"mount_path": "/data/../etc"}, "storage.mount_path"),
        ({"mount_path": "/opt/onmemos/agent"}, "storage.mount_path"),
        ({"keep": "yes"}, "storage.keep"),
        ({"filestore": {"ip": "nas", "share": "vol1"}}, "storage.filestore.ip"),
        ({"filestore": {"ip": "10.0.0.2"}}, "storage.filestore.share"),
        ({"filestore": {"ip": "10.0.0.2", "share": "vol1/../../etc"}}, "storage.filestore.share"),
        ({"filestore": {"ip": "10.0.0.2", "share": "vol1", "mount_path": "/proc"}}, "storage.filestore.mount_path"),
        ({"filestore": {"ip": "10.0.0.2", "share": "vol1", "mount_path": "/data"}}, "storage.mount_path"),
        ({"disk": 1}, "storage.disk"),
    ],
)
def test_storage_that_cannot_be_is_refused_by_its_field_and_nothing_is_made(
    client: OnMemOSClient, stack: Stack, mark: str, asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadRequest) as refusal:
        client.create_session({"namespace": mark, "user": "dev", "storage": asked})
    assert list(refusal.value.errors) == [field]
    assert Remains(stack, mark).found() == {}


def test_a_mount_inside_the_workspace_is_fine(session_with: Any, sh: Any, storage: Storage) -> None:
    with session_with(mount_path="/workspace/results") as session:
        sh(session, "echo x > results/y")
        assert names(storage.bucket(session["details"]["bucket_name"])) == ["y"]


def test_sessions_see_each_others_files_on_one_share_which_stays(
    stack: Stack, mark: str, session_with: Any, sh: Any
) -> None:
    ip, share = "10.11.12.13", f"team/{mark}"
    with session_with(filestore={"ip": ip, "share": share}) as one:
        assert one["storage"]["filestore"] == {"ip": ip, "share": share, "mount_path": "/mnt/filestore"}
        sh(one, "mkdir /mnt/filestore/notes && echo one > /mnt/filestore/notes/a")
        with session_with(filestore={"ip": ip, "share": f"/{share}", "mount_path": "/shared"}) as two:
            assert sh(two, "cat /shared/notes/a") == "one\n"
            sh(two, "echo two >> /shared/notes/a; echo b > /shared/notes/b; echo own > /data/own")
        assert (
            sh(one, "cat /mnt/filestore/notes/a /mnt/filestore/notes/b && rm /mnt/filestore/notes/b") == "one\ntwo\nb\n"
        )
    folder = stack.home / "state" / "filestore" / ip / share / "notes"
    assert [path.name for path in folder.iterdir()] == ["a"]
    with session_with(filestore={"ip": ip, "share": share}) as three:
        assert sh(three, "cat /mnt/filestore/notes/a") == "one\ntwo\n"


def test_a_share_leaves_the_ways_out_as_they_are(session_with: Any) -> None:
    with session_with() as plain, session_with(filestore={"ip": "10.11.12.13", "share": "vol1"}) as with_share:
        assert with_share["details"]["egress"] == plain["details"]["egress"]
