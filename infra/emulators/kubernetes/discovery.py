"""Discovery: which groups, versions and resources are served, in its old form and in the aggregated one."""

import platform
from typing import Any, Final

from infra.emulators.kubernetes.kinds import Kind, Kinds
from infra.emulators.kubernetes.statuses import PageNotFound

VERSION: Final = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.0",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2026-04-22T00:00:00Z",
    "goVersion": "go1.26.0",
    "compiler": "gc",
    "platform": f"linux/{'arm64' if platform.machine() == 'aarch64' else 'amd64'}",
}

AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

# Asked by POST and not kept.
REVIEWS: Final = (
    Kind(
        "authorization.k8s.io",
        "v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        namespaced=False,
        verbs=("create",),
    ),
    Kind(
        "authorization.k8s.io",
        "v1",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        namespaced=False,
        verbs=("create",),
    ),
    Kind("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False, verbs=("create",)),
    Kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False, verbs=("create",)),
)


def wants_aggregated(accept: str) -> bool:
    """Whether the aggregated form is accepted before the old one."""
    first = accept.split(",")[0].replace(" ", "").lower()
    return "g=apidiscovery.k8s.io" in first and "v=v2" in first.split(";") and "as=apigroupdiscoverylist" in first


def versions(kinds: Kinds, group: str) -> list[str]:
    """Of a group, the preferred first; none: the group is not served."""
    found = {kind.version for kind in (*kinds, *REVIEWS) if kind.group == group}
    return sorted(found, key=_priority, reverse=True)


def _priority(version: str) -> tuple[int, int, int]:
    """GA before beta before alpha, then the newer: v2 > v1 > v1beta2 > v1alpha1."""
    number, level, minor = version.removeprefix("v"), 2, "0"
    for name, rank in (("alpha", 0), ("beta", 1)):
        if name in number:
            number, _, minor = number.partition(name)
            level = rank
    return (level, int(number or 0) if number.isdecimal() else 0, int(minor or 0) if minor.isdecimal() else 0)


def is_builtin(kinds: Kinds, group: str, version: str) -> bool:
    return any(not kind.custom for kind in _of(kinds, group, version))


def groups(kinds: Kinds) -> list[str]:
    return sorted({kind.group for kind in (*kinds, *REVIEWS)} - {""})


def api_versions(host: str) -> dict[str, Any]:
    address = [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": address}


def api_group(kinds: Kinds, group: str) -> dict[str, Any]:
    """Raises PageNotFound."""
    served = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions(kinds, group)]
    if not served:
        raise PageNotFound
    return {"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": served, "preferredVersion": served[0]}


def api_group_list(kinds: Kinds) -> dict[str, Any]:
    listed = [
        {key: value for key, value in api_group(kinds, group).items() if key not in ("kind", "apiVersion")}
        for group in groups(kinds)
    ]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def _of(kinds: Kinds, group: str, version: str) -> list[Kind]:
    found = [kind for kind in (*kinds, *REVIEWS) if (kind.group, kind.version) == (group, version)]
    return sorted(found, key=lambda kind: kind.plural)


def resource_list(kinds: Kinds, group: str, version: str) -> dict[str, Any]:
    """Raises PageNotFound."""
    resources: list[dict[str, Any]] = []
    found = _of(kinds, group, version)
    if not found:
        raise PageNotFound
    for kind in found:
        resource: dict[str, Any] = {
            "name": kind.plural,
            "singularName": singular(kind),
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": list(kind.verbs),
        }
        if kind.short_names:
            resource["shortNames"] = list(kind.short_names)
        if kind.categories:
            resource["categories"] = list(kind.categories)
        resources.append(resource)
        for sub in kind.subresources:
            about = {
                "name": f"{kind.plural}/{sub.name}",
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": sub.kind,
                "verbs": list(sub.verbs),
            }
            if sub.api_version:
                about["group"], _, about["version"] = sub.api_version.rpartition("/")
            resources.append(about)
    of = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": of, "resources": resources}


def singular(kind: Kind) -> str:
    return kind.singular or kind.kind.lower()


def aggregated(kinds: Kinds, *, core: bool) -> dict[str, Any]:
    """APIGroupDiscoveryList: of /api with `core`, else of /apis."""
    items = []
    for group in [""] if core else groups(kinds):
        served = [
            {
                "version": version,
                "freshness": "Current",
                "resources": [_discovered(kind) for kind in _of(kinds, group, version)],
            }
            for version in versions(kinds, group)
        ]
        named: dict[str, Any] = {"name": group} if group else {}
        named["creationTimestamp"] = None
        items.append({"metadata": named, "versions": served})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _discovered(kind: Kind) -> dict[str, Any]:
    found: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": singular(kind),
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        found["shortNames"] = list(kind.short_names)
    if kind.categories:
        found["categories"] = list(kind.categories)
    if kind.subresources:
        found["subresources"] = []
    for sub in kind.subresources:
        group, _, version = (sub.api_version or kind.api_version).rpartition("/")
        about = {"group": group, "version": version, "kind": sub.kind}
        found["subresources"].append({"subresource": sub.name, "responseKind": about, "verbs": list(sub.verbs)})
    return found
