"""Agent Sandbox's controllers: sandboxes have Pods, pools keep sandboxes warm, claims take one over or get a new one.

As the real ones, each looks at what there is and brings it nearer to what is wanted, whatever happened before. Owner
references make what belongs to something go with it: that is the garbage collector's work. Lifetimes (shutdownTime,
ttlSecondsAfterFinished) are kept and not acted upon.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self

from infra.emulators.kubernetes import agent_sandbox_blueprints as blueprints
from infra.emulators.kubernetes import agent_sandbox_status as status
from infra.emulators.kubernetes.agent_sandbox_blueprints import (
    ASSIGNED,
    CLAIM_UID,
    LAUNCH_TYPE,
    POD_NAME,
    TEMPLATE_HASH,
    WARM_POOL,
)
from infra.emulators.kubernetes.agent_sandbox_definitions import EXTENSIONS, GROUP, VERSION
from infra.emulators.kubernetes.following import Following
from infra.emulators.kubernetes.history import Event
from infra.emulators.kubernetes.kinds import NETWORK_POLICIES, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES, Kind
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.statuses import AlreadyExists, Conflict, NotFound, StatusError

log = logging.getLogger("infra.emulators.kubernetes.agent_sandbox")

AGAIN_S: Final = 0.02
RETRY_S: Final = 1.0  # after a refusal, such as a full quota
SUFFIX: Final = "bcdfghjklmnpqrstvwxz2456789"  # of generated names: no words come about

Key = tuple[str, str, str]  # kind, namespace, name


class AgentSandbox(Following):
    """The controllers over `objects`, which have the definitions. They work from `async with` on."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(objects, "agent-sandbox")
        self._sandboxes = self._kind(GROUP, "sandboxes")
        self._claims = self._kind(EXTENSIONS, "sandboxclaims")
        self._pools = self._kind(EXTENSIONS, "sandboxwarmpools")
        self._templates = self._kind(EXTENSIONS, "sandboxtemplates")
        self._kinds = (self._sandboxes, self._claims, self._pools, self._templates)
        self._waiting: dict[Key, None] = {}
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._working = asyncio.create_task(self._work(), name="agent-sandbox's work")
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, exc, trace)
        self._working.cancel()
        await asyncio.gather(self._working, return_exceptions=True)

    def _kind(self, group: str, plural: str) -> Kind:
        kind = self._objects.kinds.find(group, VERSION, plural)
        if kind is None:
            raise LookupError(f"the cluster has no {plural}.{group}; wanted its definition first")
        return kind

    async def _saw(self, events: list[Event]) -> None:
        for event in events:
            with self._going_on():
                self._note(self._concerned(event))

    def _note(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._waiting[key] = None
        self._news.set()

    def _concerned(self, event: Event) -> Iterator[Key]:
        metadata = event.object["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        if event.kind in self._kinds:
            yield event.kind.kind, namespace, name
        if event.kind in (PODS, SERVICES, NETWORK_POLICIES, self._sandboxes):
            for obj in (event.object, event.before or {}):
                for owner in obj.get("metadata", {}).get("ownerReferences", []):
                    if (owner["apiVersion"], owner["kind"]) in {(kind.api_version, kind.kind) for kind in self._kinds}:
                        yield owner["kind"], namespace, owner["name"]
        if event.kind == self._templates:
            yield from self._keys(self._pools, namespace)
        if event.kind in (self._templates, self._pools):
            yield from self._keys(self._claims, namespace)

    async def _work(self) -> None:
        steps = {
            self._sandboxes.kind: (self._sandboxes, self._sandbox),
            self._pools.kind: (self._pools, self._pool),
            self._claims.kind: (self._claims, self._claim),
            self._templates.kind: (self._templates, self._template),
        }
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                key = next(iter(self._waiting))
                del self._waiting[key]
                kind, step = steps[key[0]]
                obj = self._find(kind, key[1], key[2])
                if obj is None or "deletionTimestamp" in obj["metadata"]:
                    continue
                try:
                    await step(obj)
                except (Conflict, NotFound, AlreadyExists):  # somebody was quicker: look again at what they did
                    asyncio.get_running_loop().call_later(AGAIN_S, self._note, [key])
                except StatusError as exc:
                    log.warning("not reconciled", extra={"object": key, "reason": str(exc)})
                    asyncio.get_running_loop().call_later(RETRY_S, self._note, [key])
                except Exception:
                    log.exception("a controller failed", extra={"object": key})

    async def _sandbox(self, sandbox: Object) -> None:
        metadata, spec = sandbox["metadata"], sandbox["spec"]
        namespace, suspended = metadata["namespace"], spec.get("operatingMode") == "Suspended"
        pod = self._find(PODS, namespace, metadata.get("annotations", {}).get(POD_NAME) or metadata["name"])
        owned = pod is not None and blueprints.owns(sandbox, pod)
        if suspended and pod is not None and owned and "deletionTimestamp" not in pod["metadata"]:
            pod = await self._objects.delete(PODS, namespace, pod["metadata"]["name"])
        elif pod is None and not suspended:
            pod = await self._make_pod(sandbox)
        elif pod is not None and owned and not suspended:
            pod = await self._label_pod(sandbox, pod)
        service = self._find(SERVICES, namespace, metadata["name"])
        if spec.get("service") and service is None:
            service = await self._objects.create(SERVICES, blueprints.service(sandbox))
        found = status.of_sandbox(sandbox, pod if pod is None or blueprints.owns(sandbox, pod) else None, service)
        await self._set_status(self._sandboxes, sandbox, found)

    async def _make_pod(self, sandbox: Object) -> Object:
        for disk in blueprints.volume_claims(sandbox):
            with contextlib.suppress(AlreadyExists):
                await self._objects.create(PERSISTENT_VOLUME_CLAIMS, disk)
        return await self._objects.create(PODS, blueprints.pod(sandbox))

    async def _label_pod(self, sandbox: Object, pod: Object) -> Object:
        """A Pod whose sandbox was claimed carries the claim's labels and no longer the pool's."""
        kept = {key: value for key, value in pod["metadata"].get("labels", {}).items() if not blueprints.is_ours(key)}
        labels = {**kept, **blueprints.pod_labels(sandbox)}
        if labels == pod["metadata"].get("labels", {}):
            return pod
        pod["metadata"]["labels"] = labels
        return await self._objects.update(PODS, pod)

    async def _pool(self, pool: Object) -> None:
        metadata, spec = pool["metadata"], pool["spec"]
        template = self._find(self._templates, metadata["namespace"], spec["sandboxTemplateRef"]["name"])
        members = self._members(pool)
        if template is not None:
            if spec.get("updateStrategy", {}).get("type") == "Recreate":
                fresh = blueprints.digest(template["spec"]["podTemplate"])
                for stale in [one for one in members if one["metadata"]["labels"].get(TEMPLATE_HASH) != fresh]:
                    await self._objects.delete(self._sandboxes, metadata["namespace"], stale["metadata"]["name"])
                members = self._members(pool)
            for _ in range(spec["replicas"] - len(members)):
                await self._objects.create(self._sandboxes, self._warm_sandbox(pool, template))
        for surplus in sorted(members, key=status.is_ready)[: max(0, len(members) - spec["replicas"])]:
            await self._objects.delete(self._sandboxes, metadata["namespace"], surplus["metadata"]["name"])
        members = self._members(pool)
        found = {
            "replicas": len(members),
            "readyReplicas": sum(map(status.is_ready, members)),
            "selector": f"{WARM_POOL}={blueprints.name_hash(metadata['name'])}",
        }
        await self._set_status(self._pools, pool, found)

    def _members(self, pool: Object) -> list[Object]:
        """The sandboxes that nobody has claimed, the oldest first."""
        found = [
            one
            for one in self._all(self._sandboxes, pool["metadata"]["namespace"])
            if blueprints.owns(pool, one) and "deletionTimestamp" not in one["metadata"]
        ]
        return sorted(found, key=lambda one: one["metadata"]["creationTimestamp"])

    def _warm_sandbox(self, pool: Object, template: Object) -> Object:
        suffix = "".join(secrets.choice(SUFFIX) for _ in range(5))
        labels = {WARM_POOL: blueprints.name_hash(pool["metadata"]["name"]), LAUNCH_TYPE: "warm"}
        return blueprints.sandbox(f"{pool['metadata']['name']}-{suffix}", pool, template, labels)

    async def _claim(self, claim: Object) -> None:
        metadata = claim["metadata"]
        namespace = metadata["namespace"]
        name = claim.get("status", {}).get("sandbox", {}).get("name") or metadata.get("annotations", {}).get(ASSIGNED)
        sandbox = self._find(self._sandboxes, namespace, name or metadata["name"])
        if sandbox is None or not blueprints.owns(claim, sandbox):
            refusal, sandbox = await self._obtain(claim)
            if sandbox is None:
                await self._set_status(self._claims, claim, status.of_claim(claim, None, refusal))
                return
            claim = self._objects.get(self._claims, namespace, metadata["name"])
        await self._set_status(self._claims, claim, status.of_claim(claim, sandbox))

    async def _obtain(self, claim: Object) -> tuple[tuple[str, str], Object | None]:
        """A warm sandbox, or a new one where there is none; else (reason, message) of why there is neither."""
        metadata, namespace = claim["metadata"], claim["metadata"]["namespace"]
        pool_name, env = claim["spec"]["warmPoolRef"]["name"], claim["spec"].get("env", [])
        pool = self._find(self._pools, namespace, pool_name)
        if pool is None:
            return ("WarmPoolNotFound", f'SandboxWarmPool "{pool_name}" not found'), None
        warm = sorted(self._members(pool), key=status.is_ready, reverse=True)
        if warm and not env:
            return ("", ""), await self._adopt(claim, warm[0])
        template_name = pool["spec"]["sandboxTemplateRef"]["name"]
        template = self._find(self._templates, namespace, template_name)
        if template is None:
            return ("TemplateNotFound", f'SandboxTemplate "{template_name}" not found'), None
        if env and template["spec"].get("envVarsInjectionPolicy") not in ("Allowed", "Overrides"):
            why = "environment variable injection is not allowed by the template policy"
            return ("EnvVarsInjectionRejected", f"environment variable injection rejected: {why}"), None
        labels = {CLAIM_UID: metadata["uid"], LAUNCH_TYPE: "cold"}
        sandbox = blueprints.sandbox(metadata["name"], claim, template, labels)
        if env:
            container = sandbox["spec"]["podTemplate"]["spec"]["containers"][0]
            container["env"] = [*container.get("env", []), *({"name": e["name"], "value": e["value"]} for e in env)]
        return ("", ""), await self._objects.create(self._sandboxes, sandbox)

    async def _adopt(self, claim: Object, sandbox: Object) -> Object:
        name, namespace = sandbox["metadata"]["name"], sandbox["metadata"]["namespace"]
        claim["metadata"].setdefault("annotations", {})[ASSIGNED] = name
        await self._objects.update(self._claims, claim)
        metadata = sandbox["metadata"]
        metadata["ownerReferences"] = [blueprints.owner(claim)]
        for label in (WARM_POOL, TEMPLATE_HASH):
            metadata["labels"].pop(label, None)
        metadata["labels"][CLAIM_UID] = claim["metadata"]["uid"]
        metadata.setdefault("annotations", {})[POD_NAME] = name
        await self._objects.update(self._sandboxes, sandbox)
        return self._objects.get(self._sandboxes, namespace, name)

    async def _template(self, template: Object) -> None:
        """The network policy that all sandboxes of the template share."""
        metadata = template["metadata"]
        name, namespace = f"{metadata['name']}-network-policy", metadata["namespace"]
        found = self._find(NETWORK_POLICIES, namespace, name)
        if template["spec"].get("networkPolicyManagement") == "Unmanaged":
            if found is not None:
                await self._objects.delete(NETWORK_POLICIES, namespace, name)
            return
        spec = blueprints.network_policy(template)
        if found is None:
            owned = {"name": name, "namespace": namespace, "ownerReferences": [blueprints.owner(template)]}
            await self._objects.create(NETWORK_POLICIES, {"metadata": owned, "spec": spec})
        elif found["spec"] != spec:
            await self._objects.update(NETWORK_POLICIES, {**found, "spec": spec})

    async def _set_status(self, kind: Kind, obj: Object, found: dict[str, Any]) -> None:
        if obj.get("status") != found:
            metadata = {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}
            await self._objects.update(kind, {**obj, "metadata": metadata, "status": found}, status=True)

    def _find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        try:
            return self._objects.get(kind, namespace, name)
        except NotFound:
            return None

    def _keys(self, kind: Kind, namespace: str) -> Iterator[Key]:
        return ((kind.kind, namespace, obj["metadata"]["name"]) for obj in self._all(kind, namespace))

    def _all(self, kind: Kind, namespace: str) -> list[Object]:
        return self._objects.list(kind, namespace)[0]
