"""The kinds that are served: data that discovery, routing and storage read. CustomResourceDefinitions add to them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

ALL_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Subresource:
    """`kind` and `api_version` are of its body; verbs as in discovery."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    api_version: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """`generation`: metadata.generation counts changes of what is not status or metadata.

    `returns_deleted`: the answer to a DELETE is the object and not a Status.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    singular: str = ""
    generation: bool = False
    returns_deleted: bool = False
    custom: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As errors name it: networkpolicies.networking.k8s.io. Versions share it, and so does the store."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def has_status(self) -> bool:
        return any(subresource.name == "status" for subresource in self.subresources)

    @property
    def status_has_metadata(self) -> bool:
        """Whether who writes the status writes labels and annotations with it, as for most built-in kinds."""
        return not self.custom and self.group != "apiextensions.k8s.io"


def _status(kind: str) -> Subresource:
    return Subresource("status", kind, ("get", "patch", "update"))


_PROXY = ("create", "delete", "get", "patch", "update")

PODS: Final = Kind(
    "",
    "v1",
    "pods",
    "Pod",
    short_names=("po",),
    categories=("all",),
    generation=True,
    returns_deleted=True,
    subresources=(
        Subresource("attach", "PodAttachOptions", ("create", "get")),
        Subresource("binding", "Binding", ("create",)),
        Subresource("eviction", "Eviction", ("create",), "policy/v1"),
        Subresource("exec", "PodExecOptions", ("create", "get")),
        Subresource("log", "Pod", ("get",)),
        Subresource("portforward", "PodPortForwardOptions", ("create", "get")),
        Subresource("proxy", "PodProxyOptions", _PROXY),
        _status("Pod"),
    ),
)
NAMESPACES: Final = Kind(
    "",
    "v1",
    "namespaces",
    "Namespace",
    namespaced=False,
    short_names=("ns",),
    verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
    subresources=(Subresource("finalize", "Namespace", ("update",)), _status("Namespace")),
)
NODES: Final = Kind("", "v1", "nodes", "Node", namespaced=False, short_names=("no",), subresources=(_status("Node"),))
EVENTS: Final = Kind("", "v1", "events", "Event", short_names=("ev",))
CONFIG_MAPS: Final = Kind("", "v1", "configmaps", "ConfigMap", short_names=("cm",))
SECRETS: Final = Kind("", "v1", "secrets", "Secret")
SERVICES: Final = Kind(
    "",
    "v1",
    "services",
    "Service",
    short_names=("svc",),
    categories=("all",),
    returns_deleted=True,
    subresources=(Subresource("proxy", "ServiceProxyOptions", _PROXY), _status("Service")),
)
SERVICE_ACCOUNTS: Final = Kind(
    "",
    "v1",
    "serviceaccounts",
    "ServiceAccount",
    short_names=("sa",),
    returns_deleted=True,
    subresources=(Subresource("token", "TokenRequest", ("create",), "authentication.k8s.io/v1"),),
)
PERSISTENT_VOLUME_CLAIMS: Final = Kind(
    "",
    "v1",
    "persistentvolumeclaims",
    "PersistentVolumeClaim",
    short_names=("pvc",),
    returns_deleted=True,
    subresources=(_status("PersistentVolumeClaim"),),
)
PERSISTENT_VOLUMES: Final = Kind(
    "",
    "v1",
    "persistentvolumes",
    "PersistentVolume",
    namespaced=False,
    short_names=("pv",),
    returns_deleted=True,
    subresources=(_status("PersistentVolume"),),
)
RESOURCE_QUOTAS: Final = Kind(
    "",
    "v1",
    "resourcequotas",
    "ResourceQuota",
    short_names=("quota",),
    returns_deleted=True,
    subresources=(_status("ResourceQuota"),),
)
LIMIT_RANGES: Final = Kind("", "v1", "limitranges", "LimitRange", short_names=("limits",))
NETWORK_POLICIES: Final = Kind(
    "networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", short_names=("netpol",), generation=True
)
RUNTIME_CLASSES: Final = Kind("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False)
STORAGE_CLASSES: Final = Kind(
    "storage.k8s.io",
    "v1",
    "storageclasses",
    "StorageClass",
    namespaced=False,
    short_names=("sc",),
    returns_deleted=True,
)
PRIORITY_CLASSES: Final = Kind(
    "scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False, short_names=("pc",)
)
LEASES: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease")
CUSTOM_RESOURCE_DEFINITIONS: Final = Kind(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
    short_names=("crd", "crds"),
    categories=("api-extensions",),
    generation=True,
    subresources=(_status("CustomResourceDefinition"),),
)

BUILTIN: Final = (
    CONFIG_MAPS,
    EVENTS,
    LIMIT_RANGES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    CUSTOM_RESOURCE_DEFINITIONS,
    LEASES,
    NETWORK_POLICIES,
    RUNTIME_CLASSES,
    PRIORITY_CLASSES,
    STORAGE_CLASSES,
)


@dataclass
class Kinds:
    """What is served at the moment; a custom kind comes and goes with its definition."""

    _served: dict[tuple[str, str, str], Kind] = field(
        default_factory=lambda: {(kind.group, kind.version, kind.plural): kind for kind in BUILTIN}
    )

    def __iter__(self) -> Iterator[Kind]:
        return iter(list(self._served.values()))

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._served.get((group, version, plural))

    def of_object(self, api_version: str, kind: str) -> Kind | None:
        """By what an object, or a reference to one, says of itself: ("v1", "Pod")."""
        for served in self._served.values():
            if served.kind == kind and served.api_version == api_version:
                return served
        return None

    def add(self, *kinds: Kind) -> None:
        for kind in kinds:
            self._served[kind.group, kind.version, kind.plural] = kind

    def discard(self, group: str, plural: str) -> None:
        self._served = {key: kind for key, kind in self._served.items() if (kind.group, kind.plural) != (group, plural)}


def kinds_of(definition: dict[str, Any]) -> list[Kind]:
    """The kinds that a CustomResourceDefinition defines: one for each served version."""
    spec = definition["spec"]
    names = spec["names"]
    kinds = []
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        status = (_status(names["kind"]),) if "status" in (version.get("subresources") or {}) else ()
        kinds.append(
            Kind(
                spec["group"],
                version["name"],
                names["plural"],
                names["kind"],
                namespaced=spec["scope"] == "Namespaced",
                short_names=tuple(names.get("shortNames", ())),
                categories=tuple(names.get("categories", ())),
                subresources=status,
                singular=names.get("singular", names["kind"].lower()),
                generation=True,
                custom=True,
            )
        )
    return kinds
