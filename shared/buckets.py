"""A bucket for each session: the Protocol, and Cloud Storage behind it."""

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from google.api_core import exceptions

from shared import names
from shared.cloud import reason
from shared.errors import ProviderUnavailable, ProvisioningFailed
from shared.objects import CloudObjects, Written, in_thread

if TYPE_CHECKING:
    from google.cloud.storage import Client

SESSION_LABEL = "onmemos-session"
PATIENCE_S = 20.0  # for the client's own retries, 120 s by default: the step is delivered again anyway
DELETED_AT_ONCE = 8  # the client keeps ten connections
MOST_PAGES = 50  # of objects that one call deletes: some minutes' work. The step is delivered again for the rest
OBJECT_USER = "roles/storage.objectUser"
POLICY_TRIES = 5
PAGE = 1000  # as many as Cloud Storage lists at once: cloud.google.com/storage/docs/json_api/v1/objects/list


class Buckets(Protocol):
    """Every method may raise ProviderUnavailable and can be repeated."""

    async def ensure(self, session_id: str, tenant: str) -> str:
        """Make the session's bucket or find the one that a former try made; its name. Raises ProvisioningFailed.

        The tenant's workspaces may use what is in it, where they have a service account.
        """

    async def delete(self, session_id: str) -> None:
        """Delete the bucket with all that is in it; one that is gone is not an error."""

    async def exists(self, name: str) -> bool:
        """Whether there is such a bucket that this deployment may use."""

    def session_ids(self) -> AsyncIterator[str]:
        """The session ids of all buckets that have a name of ours."""

    async def write(self, bucket: str, name: str, chunks: AsyncIterator[bytes]) -> Written:
        """Write an object, in the place of one that is there: whole or not at all. Raises what `chunks` raises, too."""

    def read(self, bucket: str, name: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """An object's bytes from `start` on, at most `length` of them; none where there is no such object."""

    async def size(self, bucket: str, name: str) -> int | None:
        """An object's size in bytes; None: there is no such object."""

    async def list(self, bucket: str, prefix: str) -> list[tuple[str, int]]:
        """(name, size in bytes) of the objects whose name begins so, by name; none where there is no such bucket."""

    async def remove(self, bucket: str, name: str) -> None:
        """Remove an object; one that is gone is not an error."""


class CloudStorage(CloudObjects):
    """The Buckets on Cloud Storage, whose client is synchronous: calls run in threads. `client` is opened once.

    `account`: what workspaces run as (names.workspace_account), let into each bucket that is made here, and into no
    other: it needs no role in the project. "" is let into none.
    """

    def __init__(
        self, client: "Callable[[], Client]", location: str, account: str = "", *, patience_s: float = PATIENCE_S
    ) -> None:
        super().__init__(client, patience_s)
        self._location = location
        self._account = account

    async def ensure(self, session_id: str, tenant: str) -> str:
        name: str = await in_thread(self._ensure, session_id, names.workspace_account(self._account, tenant))
        return name

    async def delete(self, session_id: str) -> None:
        await in_thread(self._delete, names.bucket_name(session_id))

    async def exists(self, name: str) -> bool:
        found: bool = await in_thread(self._exists, name)
        return found

    async def session_ids(self) -> AsyncIterator[str]:
        for name in await in_thread(self._names):
            session_id = names.session_of_bucket(name)
            if session_id is not None:
                yield session_id

    def _ensure(self, session_id: str, account: str) -> str:
        client, name = self._client(), names.bucket_name(session_id)
        bucket = client.bucket(name)
        bucket.labels = {SESSION_LABEL: session_id}
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"
        try:
            client.create_bucket(bucket, location=self._location, **self._wait)
        except exceptions.Conflict:
            if name not in {found.name for found in client.list_buckets(prefix=name, **self._wait)}:
                raise ProvisioningFailed(f"the bucket name {name} is taken by another project") from None
        except (exceptions.BadRequest, exceptions.Forbidden, exceptions.NotFound) as exc:
            raise ProvisioningFailed(f"Cloud Storage refused the bucket {name}: {reason(exc)}") from exc
        if account:
            self._admit(bucket, account)
        return name

    def _admit(self, bucket: Any, account: str) -> None:
        """Let the account use the bucket's objects; what else the policy says stays. Repeated, it only looks."""
        member = f"serviceAccount:{account}"
        for _ in range(POLICY_TRIES):
            try:
                policy = bucket.get_iam_policy(requested_policy_version=3, **self._wait)
                binding = next((one for one in policy.bindings if _is_plain(one)), None)
                if binding is None:
                    binding = {"role": OBJECT_USER, "members": set()}
                    policy.bindings.append(binding)
                if member in binding["members"]:
                    return
                binding["members"].add(member)
                bucket.set_iam_policy(policy, **self._wait)  # with the etag of what was read
            except (exceptions.PreconditionFailed, exceptions.Conflict):
                continue  # somebody else has changed it meanwhile
            except (exceptions.BadRequest, exceptions.Forbidden, exceptions.NotFound) as exc:
                raise ProvisioningFailed(
                    f"Cloud Storage did not let {account} into the bucket {bucket.name}: {reason(exc)}"
                ) from exc
            return
        raise ProviderUnavailable(f"the policy of the bucket {bucket.name} changed {POLICY_TRIES} times meanwhile")

    def _exists(self, name: str) -> bool:
        try:
            return bool(self._client().bucket(name).exists(**self._wait))
        except (exceptions.Forbidden, exceptions.BadRequest):
            return False

    def _delete(self, name: str) -> None:
        client = self._client()
        try:
            for _ in range(MOST_PAGES):
                blobs = list(client.list_blobs(name, versions=True, max_results=PAGE, **self._wait))
                if not blobs:
                    client.bucket(name).delete(**self._wait)
                    return
                with ThreadPoolExecutor(DELETED_AT_ONCE, thread_name_prefix="bucket") as pool:
                    list(pool.map(self._delete_blob, blobs))
        except exceptions.NotFound:
            return
        raise ProviderUnavailable(f"the bucket {name} had more than {MOST_PAGES * PAGE} objects, and has some yet")

    def _delete_blob(self, blob: Any) -> None:
        try:
            blob.delete(**self._wait)
        except exceptions.NotFound:
            return  # another try of the same teardown was faster

    def _names(self) -> list[str]:
        found = self._client().list_buckets(
            prefix=names.SERVICE_PREFIX, fields="items/name,nextPageToken", **self._wait
        )
        return [bucket.name for bucket in found]


def _is_plain(binding: dict[str, Any]) -> bool:
    """Whether it gives OBJECT_USER without a condition."""
    return binding["role"] == OBJECT_USER and not binding.get("condition")
