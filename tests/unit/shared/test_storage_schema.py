"""What requests may say about storage, case by case."""

from typing import Any

import pytest
from marshmallow import ValidationError

from shared.fields import flat
from shared.models import Filestore, Storage
from shared.storage_schema import StorageSchema


def loaded(data: Any) -> Storage:
    storage: Storage = StorageSchema().load(data)
    return storage


@pytest.mark.parametrize(
    ("asked", "storage"),
    [
        ({}, Storage(None, "/data", keep=False, filestore=None)),
        ({"keep": True}, Storage(keep=True)),
        ({"bucket": None, "filestore": None}, Storage()),
        ({"mount_path": "/lab/in.put"}, Storage(mount_path="/lab/in.put")),
        ({"mount_path": "/workspace/results"}, Storage(mount_path="/workspace/results")),
        ({"mount_path": "/etcetera"}, Storage(mount_path="/etcetera")),
        ({"bucket": "my.data_sets-1"}, Storage("my.data_sets-1", keep=True)),
        ({"bucket": "datasets", "keep": True}, Storage("datasets", keep=True)),
        (
            {"filestore": {"ip": "10.0.0.2", "share": "vol1"}},
            Storage(filestore=Filestore("10.0.0.2", "vol1", "/mnt/filestore")),
        ),
        (
            {"filestore": {"ip": "10.0.0.2", "share": "/vol1/team/", "mount_path": "/shared"}},
            Storage(filestore=Filestore("10.0.0.2", "vol1/team", "/shared")),
        ),
    ],
)
def test_what_is_left_out_is_as_documented(asked: dict[str, Any], storage: Storage) -> None:
    assert loaded(asked) == storage


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "data", "./data", "/data/", "//data", "/data//x", "/data/../etc", "/data/..", "/.hidden", "/da ta",
        "/data\n", "/data:ro", "/data,x", "/workspace", "/opt", "/opt/onmemos", "/opt/onmemos/agent", "/opt/python/bin",
        "/etc", "/etc/x", "/usr/local/data", "/bin", "/proc/1", "/dev/shm", "/sys", "/run/onmemos", "/tmp/x", "/var",
        "/root", "/boot", "/lib64/x", "/" + "x" * 300, 5, None, ["/data"],
    ],
)  # fmt: skip
def test_a_mount_path_that_is_the_systems_or_no_path_is_refused(path: Any) -> None:
    for asked in ({"mount_path": path}, {"filestore": {"ip": "10.0.0.2", "share": "vol1", "mount_path": path}}):
        with pytest.raises(ValidationError) as refusal:
            loaded(asked)
        ((field, (complaint,)),) = flat(refusal.value.normalized_messages())
        assert field.endswith("mount_path")
        assert "got " in complaint
        assert "wanted " in complaint


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"bucket": "Capital"}, "bucket"),
        ({"bucket": "a"}, "bucket"),
        ({"bucket": "-begins"}, "bucket"),
        ({"bucket": "a/b"}, "bucket"),
        ({"bucket": ""}, "bucket"),
        ({"bucket": "datasets", "keep": False}, "keep"),
        ({"keep": 1}, "keep"),
        ({"disk": "ssd"}, "disk"),
        ({"filestore": "10.0.0.2:/vol1"}, "filestore"),
        ({"filestore": {"share": "vol1"}}, "filestore.ip"),
        ({"filestore": {"ip": "10.0.0.2"}}, "filestore.share"),
        ({"filestore": {"ip": "10.0.0", "share": "vol1"}}, "filestore.ip"),
        ({"filestore": {"ip": 167772162, "share": "vol1"}}, "filestore.ip"),
        ({"filestore": {"ip": "nas.internal", "share": "vol1"}}, "filestore.ip"),
        ({"filestore": {"ip": "10.0.0.2", "share": ""}}, "filestore.share"),
        ({"filestore": {"ip": "10.0.0.2", "share": "/"}}, "filestore.share"),
        ({"filestore": {"ip": "10.0.0.2", "share": "a/../../b"}}, "filestore.share"),
        ({"filestore": {"ip": "10.0.0.2", "share": "a//b"}}, "filestore.share"),
        ({"filestore": {"ip": "10.0.0.2", "share": "x" * 300}}, "filestore.share"),
        ({"filestore": {"ip": "10.0.0.2", "share": "vol1", "port": 2049}}, "filestore.port"),
        (
            {"mount_path": "/s", "filestore": {"ip": "10.0.0.2", "share": "v", "mount_path": "/s"}},
            "mount_path",
        ),
        ([], "body"),
    ],
)
def test_each_complaint_is_about_its_field(asked: Any, field: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        loaded(asked)
    assert [name for name, _ in flat(refusal.value.normalized_messages())] == [field]
