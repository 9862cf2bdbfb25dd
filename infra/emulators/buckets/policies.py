"""Who may use a bucket: its IAM policy, kept and given back as Cloud Storage does. Nobody is refused by it here."""

import base64
import json
import re
from pathlib import Path
from typing import Any

ROLE = re.compile(r"(?:roles|projects/[^/]+/roles|organizations/[^/]+/roles)/[A-Za-z0-9_.]+")
# cloud.google.com/iam/docs/principal-identifiers
MEMBER = re.compile(
    r"allUsers|allAuthenticatedUsers|serviceAccount:[^@\s{}]+@[^@\s{}]+|(?:user|group):[^@\s]+@[^@\s]+"
    r"|(?:domain|projectOwner|projectEditor|projectViewer):\S+|principal(?:Set)?://\S+|deleted:\S+"
)
MOST_MEMBERS = 1500  # cloud.google.com/iam/quotas
LATEST = 3


class BadPolicy(Exception):
    """Cloud Storage would refuse it with this status and reason."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class Policies:
    """A file for each bucket whose policy was set, in `folder`; all of it blocks, one caller at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, bucket: str) -> dict[str, Any]:
        """The policy; a bucket has one from the beginning."""
        try:
            kept: dict[str, Any] = json.loads(self._file(bucket).read_bytes())
        except FileNotFoundError:
            kept = {
                "generation": 0,
                "version": 1,
                "bindings": [
                    {"role": "roles/storage.legacyBucketOwner", "members": ["projectEditor:p", "projectOwner:p"]},
                    {"role": "roles/storage.legacyBucketReader", "members": ["projectViewer:p"]},
                ],
            }
        etag = base64.b64encode(b"\x08" + str(kept["generation"]).encode()).decode()
        resource = {"kind": "storage#policy", "resourceId": f"projects/_/buckets/{bucket}", "etag": etag}
        return {**resource, "version": kept["version"], "bindings": kept["bindings"]}

    def write(self, bucket: str, policy: Any) -> dict[str, Any]:
        """Put it in the place of the one that is there, if that still has its etag. Raises BadPolicy."""
        bindings = _bindings(policy)
        current = self.read(bucket)
        if policy.get("etag") not in (None, "", current["etag"]):
            raise BadPolicy(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")
        generation = int(base64.b64decode(current["etag"])[1:]) + 1
        version = LATEST if any("condition" in binding for binding in bindings) else 1
        self._folder.mkdir(mode=0o700, exist_ok=True)
        fresh = self._folder / f".{bucket}"
        fresh.write_text(json.dumps({"generation": generation, "version": version, "bindings": bindings}))
        fresh.replace(self._file(bucket))
        return self.read(bucket)

    def forget(self, bucket: str) -> None:
        """The bucket is gone."""
        self._file(bucket).unlink(missing_ok=True)

    def _file(self, bucket: str) -> Path:
        return self._folder / f"{bucket}.json"


def _bindings(policy: Any) -> list[dict[str, Any]]:
    """Each role once for each condition, its members in order. Raises BadPolicy."""
    given = policy.get("bindings", []) if isinstance(policy, dict) else None
    if not isinstance(given, list) or not all(isinstance(binding, dict) for binding in given):
        raise BadPolicy(400, "invalid", "A policy is an object with a list of bindings.")
    members: dict[tuple[str, str], set[str]] = {}
    for binding in given:
        role, named, condition = binding.get("role"), binding.get("members", []), binding.get("condition")
        if not isinstance(role, str) or not ROLE.fullmatch(role):
            raise BadPolicy(400, "invalid", f"The role {role!r} is not a role's name.")
        for member in named:
            if not isinstance(member, str) or not MEMBER.fullmatch(member):
                raise BadPolicy(400, "invalid", f"The member {member!r} is of an unknown type, or its syntax is wrong.")
        members.setdefault((role, json.dumps(condition, sort_keys=True)), set()).update(named)
    if sum(map(len, members.values())) > MOST_MEMBERS:
        raise BadPolicy(400, "invalid", f"A policy has at most {MOST_MEMBERS} members.")
    return [
        {"role": role, "members": sorted(named)} | ({} if condition == "null" else {"condition": json.loads(condition)})
        for (role, condition), named in sorted(members.items())
        if named
    ]
