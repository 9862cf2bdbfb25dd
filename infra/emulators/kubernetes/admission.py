"""What happens to an object before it is stored: names, defaults, admission plugins, validation, in the real order."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from infra.emulators.kubernetes import (
    kind_defaults,
    kind_rules,
    kinds,
    limit_ranges,
    pod_defaults,
    pod_resources,
    pod_security,
    quota,
    structural,
)
from infra.emulators.kubernetes.definition_cleanup import FINALIZER
from infra.emulators.kubernetes.definitions import established, schema_of_kind
from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.labels import metadata_errors
from infra.emulators.kubernetes.moments import timestamp
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.pod_rules import pod_change_errors
from infra.emulators.kubernetes.statuses import FieldError, Forbidden, Invalid, NotFound, forbidden

SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"  # no vowels, no words: apimachinery's rand.String
SUFFIX_LENGTH: Final = 5
_LONGEST_BASE: Final = 63 - SUFFIX_LENGTH
_KEPT_NAMESPACES: Final = ("default", "kube-system", "kube-public")
_DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
_FIRST_ADDRESS: Final = (10, 96)  # of services: the first two bytes


class Admission:
    """The rules of `objects`, which are attached once both exist."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._random = rng or random.Random()  # noqa: S311 - names, no secrets

    def attach(self, objects: Objects) -> None:
        self._objects = objects

    def create(self, kind: Kind, obj: Object) -> None:
        """Raises NotFound, Forbidden, Invalid."""
        metadata = obj["metadata"]
        if not metadata.get("name") and (base := metadata.get("generateName")):
            metadata["name"] = base[:_LONGEST_BASE] + self._suffix()
        self._fill(kind, obj)
        self._check_namespace(kind, obj)
        self._admit(kind, obj)
        self._validate(kind, obj, [*metadata_errors(kind, metadata), *self._errors(kind, obj)])
        if kind is kinds.PODS:
            self._check_pod_security(obj)
            limit_ranges.check_pod(self._objects, obj)
        elif kind is kinds.PERSISTENT_VOLUME_CLAIMS:
            limit_ranges.check_claim(self._objects, obj)
        if kind.namespaced:
            quota.check(self._objects, kind, obj)

    def update(self, kind: Kind, obj: Object, old: Object, subresource: str) -> None:
        """Raises Invalid, Forbidden."""
        if subresource in ("finalize", "binding"):
            return
        if subresource != "status":
            self._fill(kind, obj)
        elif kind.custom:
            obj["status"] = structural.defaulted(
                obj.get("status", {}), self._schema(kind).get("properties", {}).get("status", {})
            )
        if kind is kinds.NAMESPACES:
            obj["spec"] = old.get("spec", {})  # only `finalize` changes it
        if kind is kinds.CUSTOM_RESOURCE_DEFINITIONS and not subresource:
            obj["status"] = established(obj, old["metadata"]["creationTimestamp"])
        faults = list(metadata_errors(kind, obj["metadata"]))
        faults += _finalizer_errors(obj, old)
        if subresource == "status" and not kind.custom:
            self._validate(kind, obj, faults)
            return
        if kind is kinds.PODS:
            faults += pod_change_errors(obj, old)
        else:
            faults += [*kind_rules.change_errors(kind, obj, old), *self._errors(kind, obj)]
        self._validate(kind, obj, faults)

    def delete(self, kind: Kind, obj: Object) -> None:
        """Raises Forbidden."""
        if kind is kinds.NAMESPACES and obj["metadata"]["name"] in _KEPT_NAMESPACES:
            raise Forbidden(kind, obj["metadata"]["name"], "this namespace may not be deleted")

    def _suffix(self) -> str:
        return "".join(self._random.choice(SUFFIX_LETTERS) for _ in range(SUFFIX_LENGTH))

    def _fill(self, kind: Kind, obj: Object) -> None:
        if kind is kinds.PODS:
            pod_defaults.fill(obj)
        elif kind.custom:
            schema = self._schema(kind)
            kept = {key: obj[key] for key in ("apiVersion", "kind", "metadata")}
            obj.update({**structural.defaulted(obj, {"properties": _own(schema)}), **kept})
        else:
            kind_defaults.fill(kind, obj)

    def _schema(self, kind: Kind) -> dict[str, Any]:
        return schema_of_kind(self._objects, kind)

    def _errors(self, kind: Kind, obj: Object) -> Iterator[FieldError]:
        if kind.custom:
            schema = self._schema(kind)
            own = {"type": "object", "properties": _own(schema), "required": schema.get("required", ())}
            yield from structural.errors(obj, own, "")
        else:
            yield from kind_rules.errors(kind, obj)

    @staticmethod
    def _validate(kind: Kind, obj: Object, faults: list[FieldError]) -> None:
        if faults:
            raise Invalid(kind, obj["metadata"].get("name", ""), faults)

    def _check_namespace(self, kind: Kind, obj: Object) -> None:
        if not kind.namespaced:
            return
        name = obj["metadata"].get("namespace", "")
        namespace = self._objects.get(kinds.NAMESPACES, None, name)
        if "deletionTimestamp" in namespace["metadata"]:
            message = f"namespace {name} is being terminated"
            cause = {"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}
            why = f"unable to create new content in namespace {name} because it is being terminated"
            raise Forbidden(kind, obj["metadata"].get("name", ""), why, [cause])

    def _admit(self, kind: Kind, obj: Object) -> None:
        if kind is kinds.PODS:
            self._admit_pod(obj)
        elif kind is kinds.PERSISTENT_VOLUME_CLAIMS:
            self._admit_claim(obj)
        elif kind is kinds.SERVICES:
            self._admit_service(obj)
        elif kind is kinds.NAMESPACES:
            obj["spec"] = {"finalizers": ["kubernetes"]}
            obj["status"] = {"phase": "Active"}
        elif kind is kinds.PERSISTENT_VOLUMES:
            obj["status"] = {"phase": "Pending"}
        elif kind is kinds.RESOURCE_QUOTAS:
            obj["status"] = {}
        elif kind is kinds.CUSTOM_RESOURCE_DEFINITIONS and obj["spec"].get("versions"):
            obj["status"] = established(obj, timestamp(datetime.now(UTC)))
            finalizers = obj["metadata"].setdefault("finalizers", [])
            if FINALIZER not in finalizers:
                finalizers.append(FINALIZER)

    def _admit_pod(self, pod: Object) -> None:
        metadata, spec = pod["metadata"], pod["spec"]
        name, namespace = metadata.get("name", ""), metadata["namespace"]
        limit_ranges.fill(self._objects, pod)
        account_name = spec.setdefault("serviceAccountName", "default")
        spec["serviceAccount"] = account_name
        try:
            account = self._objects.get(kinds.SERVICE_ACCOUNTS, namespace, account_name)
        except NotFound:
            missing = f'serviceaccount "{account_name}" not found'
            why = f"error looking up service account {namespace}/{account_name}: {missing}"
            raise Forbidden(kinds.PODS, name, why) from None
        mount = spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True))
        if mount:
            pod_defaults.mount_token(pod, self._suffix())
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]
        pod_defaults.admit(pod)
        self._set_priority(pod)
        if runtime := spec.get("runtimeClassName"):
            try:
                runtime_class = self._objects.get(kinds.RUNTIME_CLASSES, None, runtime)
            except NotFound:
                why = f'pod rejected: RuntimeClass "{runtime}" not found'
                raise Forbidden(kinds.PODS, name, why) from None
            if overhead := (runtime_class.get("overhead") or {}).get("podFixed"):
                spec.setdefault("overhead", overhead)
        pod["status"] = {"phase": "Pending", "qosClass": pod_resources.quality_of_service(spec)}

    def _set_priority(self, pod: Object) -> None:
        spec, found = pod["spec"], None
        if wanted := spec.get("priorityClassName"):
            try:
                found = self._objects.get(kinds.PRIORITY_CLASSES, None, wanted)
            except NotFound:
                why = f"no PriorityClass with name {wanted} was found"
                raise Forbidden(kinds.PODS, pod["metadata"].get("name", ""), why) from None
        else:
            classes = self._objects.list(kinds.PRIORITY_CLASSES)[0]
            found = next((one for one in classes if one.get("globalDefault")), None)
            if found:
                spec["priorityClassName"] = found["metadata"]["name"]
        spec["priority"] = found["value"] if found else 0
        policy = found.get("preemptionPolicy") if found else None
        spec.setdefault("preemptionPolicy", policy or "PreemptLowerPriority")

    def _admit_claim(self, claim: Object) -> None:
        spec = claim["spec"]
        if "storageClassName" not in spec:
            for storage in self._objects.list(kinds.STORAGE_CLASSES)[0]:
                if (storage["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true":
                    spec["storageClassName"] = storage["metadata"]["name"]
        claim["status"] = {"phase": "Pending"}

    def _admit_service(self, service: Object) -> None:
        spec = service["spec"]
        service["status"] = {"loadBalancer": {}}
        if spec["type"] == "ExternalName":
            return
        if not spec.get("clusterIP"):
            taken = {one["spec"].get("clusterIP") for one in self._objects.list(kinds.SERVICES)[0]}
            free = (
                f"{_FIRST_ADDRESS[0]}.{_FIRST_ADDRESS[1]}.{number // 256}.{number % 256}" for number in range(2, 65535)
            )
            spec["clusterIP"] = next(address for address in free if address not in taken)
        spec.setdefault("clusterIPs", [spec["clusterIP"]])

    def _check_pod_security(self, pod: Object) -> None:
        namespace = self._objects.get(kinds.NAMESPACES, None, pod["metadata"]["namespace"])
        labels = namespace["metadata"].get("labels") or {}
        level = labels.get(pod_security.LABEL, "privileged")
        if found := pod_security.violations(pod["spec"], level):
            version = labels.get(f"{pod_security.LABEL}-version", "latest")
            why = f'violates PodSecurity "{level}:{version}": {", ".join(found)}'
            raise Forbidden(kinds.PODS, pod["metadata"]["name"], why)


def _own(schema: dict[str, Any]) -> dict[str, Any]:
    """The properties of a custom schema without what all objects have."""
    common = ("apiVersion", "kind", "metadata")
    return {key: value for key, value in schema.get("properties", {}).items() if key not in common}


def _finalizer_errors(obj: Object, old: Object) -> Iterator[FieldError]:
    if "deletionTimestamp" not in old["metadata"]:
        return
    had = set(old["metadata"].get("finalizers") or ())
    added = [one for one in obj["metadata"].get("finalizers") or () if one not in had]
    if added:
        shown = "[]string{" + ", ".join(f'"{one}"' for one in added) + "}"
        why = f"no new finalizers can be added if the object is being deleted, found new finalizers {shown}"
        yield forbidden("metadata.finalizers", why)
