"""What a request says about a session's storage: a bucket, a share, and where they are mounted."""

import re
from ipaddress import IPv4Address
from typing import Any

from marshmallow import ValidationError, fields, post_load

from shared.fields import Flag, Strict, Text, Value, seen
from shared.models import DATA_PATH, FILESTORE_PATH, Filestore, Storage

# cloud.google.com/storage/docs/buckets#naming
BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
SHARE = re.compile(r"(?=.{1,255}$)/?[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*/?")
# A folder of its own below the root: what the system and the agent are made of stays as it is.
MOUNT_PATH = re.compile(r"(?=.{2,255}$)"
                        r"/(?!(?:bin|boot|dev|etc|lib|lib32|lib64|libx32|proc|root|run|sbin|sys|tmp|usr|var)(?:/|$))"
                        r"(?!workspace$|opt/(?:onmemos|python)(?:/|$)|opt$)"
                        r"[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*")  # fmt: skip
MOUNT_WANTED = "an absolute path such as /data, outside of the system's folders and not /workspace itself"


class Address(Value[str]):
    """An IPv4 address."""

    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "ipv4", **self._described()}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> str:
        try:
            return str(IPv4Address(value if isinstance(value, str) else ""))
        except ValueError:
            raise ValidationError(f"got {seen(value)}, wanted an IPv4 address such as 10.0.0.2") from None


class FilestoreSchema(Strict):
    """An NFS share to mount."""

    ip = Address(required=True, about="the server's IPv4 address, such as 10.0.0.2")
    share = Text("the name of an NFS share", SHARE, required=True)
    mount_path = Text(MOUNT_WANTED, MOUNT_PATH, load_default=FILESTORE_PATH, about="where in the session")

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> Filestore:
        return Filestore(data["ip"], data["share"].strip("/"), data["mount_path"])


class StorageSchema(Strict):
    """What a session mounts: a bucket, and if wanted an NFS share."""

    bucket = Text("the name of a bucket that is there", BUCKET, load_default=None, about="null: one of its own")
    mount_path = Text(MOUNT_WANTED, MOUNT_PATH, load_default=DATA_PATH, about="where in the session the bucket is")
    keep = Flag(load_default=None, about="whether the session's own bucket outlives it")
    filestore = fields.Nested(FilestoreSchema, load_default=None)

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> Storage:
        if data["bucket"] is not None and data["keep"] is False:
            raise ValidationError({"keep": ["got false with a bucket, wanted true: a bucket that was there is kept"]})
        share: Filestore | None = data["filestore"]
        if share is not None and share.mount_path == data["mount_path"]:
            complaint = f"got {seen(share.mount_path)} for both the bucket and the share, wanted two folders"
            raise ValidationError({"mount_path": [complaint]})
        return Storage(data["bucket"], data["mount_path"], bool(data["keep"] or data["bucket"]), share)
