"""What sessions have in the cluster: made so that a try can be repeated after any line, and removed whole."""

import asyncio
import math
from contextlib import aclosing

from shared.errors import ProviderUnavailable
from shared.models import Session
from shared.providers import gke_manifests as manifests
from shared.providers.base import Condition, Health
from shared.providers.gke_claims import WarmPool
from shared.providers.gke_cluster import (
    CONFLICT,
    FORBIDDEN,
    NETWORK_POLICIES,
    NOT_FOUND,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    VOLUME_CLAIMS,
    Cluster,
    Kind,
    Refused,
)
from shared.providers.gke_conditions import ENDED, condition
from shared.providers.gke_manifests import SESSION_LABEL, GkeSettings, Manifest, namespace_name, selector
from shared.providers.gke_readiness import Waiting

MOST_TRIES = 5
MOST_KNOWN = 10_000
MAKE_TIMEOUT_S = 240.0  # all objects; a Pod of before that still ends takes its 10 s, on a node that is slow minutes
ACCOUNT_TIMEOUT_S = 30.0  # a controller makes a fresh namespace's default account, usually within 100 ms
NO_POD = Condition(Health.GONE, "it has no Pod")


class Pods:
    """The objects of all sessions. Raises Refused, ProviderUnavailable, ProvisioningFailed, TimeoutError."""

    def __init__(
        self,
        cluster: Cluster,
        settings: GkeSettings,
        *,
        most_patience_s: float = math.inf,
        make_timeout_s: float = MAKE_TIMEOUT_S,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._most_patience_s = most_patience_s
        self._make_timeout_s = make_timeout_s
        self._known: set[str] = set()  # namespaces that were there
        namespace, _, pool = settings.warm_pool.partition("/")
        self._pool = WarmPool(cluster, namespace, pool) if pool else None

    async def close(self) -> None:
        await self._cluster.close()

    async def start(self, session: Session, env: dict[str, str], bucket: str) -> tuple[Manifest, bool]:
        """The session's Pod once it is ready, and whether it came from the warm pool."""
        pool = self._pool
        if pool is not None and await self._belongs_to(pool, session):
            pod_name, namespace = await pool.claim(session), pool.namespace
        else:
            pool, pod_name, namespace = None, session.id, namespace_name(session)
            await self._made(session, env, bucket)
        waiting = Waiting(self._cluster, namespace, pod_name, most_patience_s=self._most_patience_s)
        return await waiting.until_ready(), pool is not None

    async def condition(self, session_id: str) -> Condition:
        pods, disks, claim = await asyncio.gather(
            self._cluster.labelled(PODS, selector(session_id)),
            self._cluster.labelled(VOLUME_CLAIMS, selector(session_id)),
            self._claim(session_id),
        )
        if claim is not None and self._pool is not None and "deletionTimestamp" not in claim["metadata"]:
            pod = await self._pool.pod(claim)
            return _condition(pod) if pod else Condition(Health.STARTING, "its claim has no Pod yet")
        ours = [_condition(pod) for pod in pods if pod["metadata"]["name"] == session_id]
        found = ours[0] if ours else NO_POD
        if found.health is Health.GONE and any(_name(disk) == session_id for disk in disks):
            return Condition(Health.STOPPED, f"{found.reason}; its disk is there")
        return found

    async def ids(self) -> list[str]:
        """The sessions that have anything here, each once."""
        kinds = [self._cluster.labelled(kind, SESSION_LABEL) for kind in (NETWORK_POLICIES, PODS, VOLUME_CLAIMS)]
        if self._pool is not None:
            kinds.append(self._pool.claims(SESSION_LABEL))
        found = [obj for objects in await asyncio.gather(*kinds) for obj in objects]
        return sorted({_name(obj) for obj in found if obj["metadata"]["labels"][SESSION_LABEL] == _name(obj)})

    async def remove(self, session_id: str, *, keep_disk: bool) -> None:
        """Everything of a session, and wait until its processes are gone; with `keep_disk`, all but that."""
        policies, pods, disks = await asyncio.gather(
            *(self._cluster.labelled(kind, selector(session_id)) for kind in (NETWORK_POLICIES, PODS, VOLUME_CLAIMS))
        )
        namespaces = {obj["metadata"]["namespace"] for obj in (*policies, *pods, *disks)}
        first = [self._delete_all(PODS, pods)]
        first += [self._cluster.delete(SECRETS, namespace, session_id) for namespace in namespaces]
        if not keep_disk:
            first.append(self._delete_all(VOLUME_CLAIMS, disks))
        if self._pool is not None:
            first.append(self._pool.release(session_id))
        await asyncio.gather(*first)
        await self._delete_all(NETWORK_POLICIES, policies)  # last: by it the rest is found again

    async def _belongs_to(self, pool: WarmPool, session: Session) -> bool:
        """What a former try began is gone on with; else the pool is taken where it fits."""
        claim, policy, fits = await asyncio.gather(
            pool.find(session.id),
            self._cluster.find(NETWORK_POLICIES, namespace_name(session), session.id),
            pool.fits(session),
        )
        return claim is not None or (policy is None and fits)

    async def _claim(self, session_id: str) -> Manifest | None:
        return await self._pool.find(session_id) if self._pool is not None else None

    async def _made(self, session: Session, env: dict[str, str], bucket: str) -> None:
        namespace = namespace_name(session)
        try:
            async with asyncio.timeout(self._make_timeout_s):
                for _ in range(MOST_TRIES):
                    try:
                        await self._make(session, env, bucket)
                        return
                    except Refused as refusal:
                        if refusal.status != NOT_FOUND or namespace not in self._known:
                            raise
                        self._known.discard(namespace)  # somebody removed it
        except TimeoutError as exc:
            why = f"the Pod {session.id}, or its disk, could not be made within {self._make_timeout_s:g} s"
            raise ProviderUnavailable(f"{why}: one of before does not end") from exc

    async def _make(self, session: Session, env: dict[str, str], bucket: str) -> None:
        namespace = await self._namespace(session)
        await self._ensure(NETWORK_POLICIES, namespace, manifests.network_policy(session), renew=True)
        parts = [self._ensure(SECRETS, namespace, manifests.secret(session, env), renew=True)]
        if session.long_lived:
            parts.append(self._ensure(VOLUME_CLAIMS, namespace, manifests.volume_claim(session, self._settings)))
        await asyncio.gather(*parts)
        await self._pod(namespace, manifests.pod(session, self._settings, bucket))

    async def _namespace(self, session: Session) -> str:
        """The session's namespace, closed to the network and with the account that Pods run as."""
        name = namespace_name(session)
        if name in self._known:
            return name
        try:
            await self._cluster.create_namespace(manifests.namespace(session))
        except Refused as refusal:
            if refusal.status != CONFLICT:
                raise
        parts = [self._ensure(NETWORK_POLICIES, name, manifests.default_deny())]
        if self._settings.service_account:
            account = manifests.service_account(self._settings.service_account)
            parts.append(self._ensure(SERVICE_ACCOUNTS, name, account))
        await asyncio.gather(*parts)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known.add(name)
        return name

    async def _pod(self, namespace: str, manifest: Manifest) -> None:
        """Make the Pod, or find the one that a former try made; one that is ending or has ended makes room first."""
        name = manifest["metadata"]["name"]
        for _ in range(MOST_TRIES):
            try:
                await self._cluster.create(PODS, namespace, manifest)
                return
            except Refused as refusal:
                if refusal.status == FORBIDDEN and "serviceaccount" in str(refusal):
                    await self._account(namespace, manifest["spec"].get("serviceAccountName", "default"))
                    continue
                if refusal.status != CONFLICT:
                    raise
            found = await self._cluster.find(PODS, namespace, name)
            if found is not None and "deletionTimestamp" in found["metadata"]:
                await self._cluster.gone(PODS, namespace, found)
            elif found is not None and found.get("status", {}).get("phase") in ENDED:
                await self._cluster.delete(PODS, namespace, name)
            elif found is not None:
                return

    async def _account(self, namespace: str, name: str) -> None:
        """Wait for a fresh namespace's service account: until then its Pods are refused."""
        async with asyncio.timeout(ACCOUNT_TIMEOUT_S):
            async with aclosing(self._cluster.states(SERVICE_ACCOUNTS, namespace, name)) as states:
                async for account in states:
                    if account is not None:
                        return

    async def _ensure(self, kind: Kind, namespace: str, manifest: Manifest, *, renew: bool = False) -> None:
        """Create it; what is there already stays, or with `renew` becomes what is asked for now."""
        for _ in range(MOST_TRIES):
            try:
                await self._cluster.create(kind, namespace, manifest)
                return
            except Refused as refusal:
                if refusal.status != CONFLICT:
                    raise
            if kind is VOLUME_CLAIMS:
                found = await self._cluster.find(kind, namespace, manifest["metadata"]["name"])
                if found is not None and "deletionTimestamp" in found["metadata"]:
                    await self._cluster.gone(kind, namespace, found)
                    continue
            if not renew:
                return
            try:
                await self._cluster.replace(kind, namespace, manifest)
                return
            except Refused as refusal:
                if refusal.status != NOT_FOUND:  # it went between the two
                    raise

    async def _delete_all(self, kind: Kind, objects: list[Manifest]) -> None:
        await asyncio.gather(*(self._cluster.delete(kind, obj["metadata"]["namespace"], _name(obj)) for obj in objects))


def _name(obj: Manifest) -> str:
    return str(obj["metadata"]["name"])


def _condition(pod: Manifest) -> Condition:
    from kubernetes.aio.client import V1Pod

    parsed = V1Pod.from_dict(pod)
    return condition(parsed) if parsed is not None else NO_POD
