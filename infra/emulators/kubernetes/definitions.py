"""CustomResourceDefinitions: their schemas, the checks of a definition itself, the status of one that is served."""

from collections.abc import Iterator
from typing import Any

from infra.emulators.kubernetes.kinds import CUSTOM_RESOURCE_DEFINITIONS, Kind
from infra.emulators.kubernetes.labels import label_1035_faults, label_faults, subdomain_faults
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.schemas import PREFIX, Schema, definition_name, schema_of
from infra.emulators.kubernetes.statuses import FieldError, NotFound, invalid, required, unsupported


def schema_of_kind(objects: Objects, kind: Kind) -> Schema:
    """Of a built-in kind its own; of a custom kind its definition's, with the metadata that all objects have."""
    if not kind.custom:
        return schema_of(kind)
    version = version_of(objects, kind)
    schema: Schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    metadata = {"$ref": PREFIX + "io.k8s.api.v1.ObjectMeta"}
    common = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": metadata}
    return {**schema, "type": "object", "properties": {**schema.get("properties", {}), **common}}


def version_of(objects: Objects, kind: Kind) -> dict[str, Any]:
    """The entry of spec.versions; {} when the definition has gone meanwhile."""
    try:
        definition = objects.get(CUSTOM_RESOURCE_DEFINITIONS, None, kind.resource)
    except NotFound:
        return {}
    versions: list[dict[str, Any]] = definition["spec"]["versions"]
    return next((version for version in versions if version["name"] == kind.version), {})


def fill(definition: Object) -> None:
    """The defaults of a definition's names and conversion."""
    spec = definition.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if kind := names.get("kind"):
        names.setdefault("singular", kind.lower())
        names.setdefault("listKind", f"{kind}List")
    spec.setdefault("conversion", {"strategy": "None"})


def established(definition: Object, now: str) -> dict[str, Any]:
    """The status of a definition whose kinds are served."""
    conditions = [
        {
            "type": "NamesAccepted",
            "status": "True",
            "lastTransitionTime": now,
            "reason": "NoConflicts",
            "message": "no conflicts found",
        },
        {
            "type": "Established",
            "status": "True",
            "lastTransitionTime": now,
            "reason": "InitialNamesAccepted",
            "message": "the initial names have been accepted",
        },
    ]
    spec = definition["spec"]
    stored = [version["name"] for version in spec["versions"] if version.get("storage")]
    return {"conditions": conditions, "acceptedNames": spec["names"], "storedVersions": stored}


def definition_errors(definition: Object) -> Iterator[FieldError]:
    spec = definition.get("spec", {})
    names, group = spec.get("names") or {}, spec.get("group", "")
    name, wanted = definition["metadata"].get("name", ""), f"{names.get('plural', '')}.{group}"
    if name != wanted:
        rule = 'must be spec.names.plural+"."+spec.group'
        yield invalid("metadata.name", name, rule)
    if not group:
        yield required("spec.group")
    else:
        for fault in subdomain_faults(group):
            yield invalid("spec.group", group, fault)
        if "." not in group:
            yield invalid("spec.group", group, "should be a domain with at least one dot")
    scope = spec.get("scope", "")
    if not scope:
        yield required("spec.scope")
    elif scope not in ("Cluster", "Namespaced"):
        yield unsupported("spec.scope", scope, ("Cluster", "Namespaced"))
    for field in ("plural", "singular", "kind", "listKind"):
        value = names.get(field, "")
        if not value:
            yield required(f"spec.names.{field}")
            continue
        for fault in label_1035_faults(value.lower()):
            yield invalid(f"spec.names.{field}", value, fault)
    yield from _version_errors(spec.get("versions") or [])


def _version_errors(versions: list[dict[str, Any]]) -> Iterator[FieldError]:
    if not versions:
        yield required("spec.versions", "must have at least one version")
    stored = sum(bool(version.get("storage")) for version in versions)
    if versions and stored != 1:
        shown = [version.get("name", "") for version in versions]
        yield invalid("spec.versions", shown, "must have exactly one version marked as storage version")
    for index, version in enumerate(versions):
        where = f"spec.versions[{index}]"
        for fault in label_faults(version.get("name", "")):
            yield invalid(f"{where}.name", version.get("name", ""), fault)
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if not schema:
            yield required(f"{where}.schema.openAPIV3Schema", "schemas are required")
        elif schema.get("type") != "object":
            field = f"{where}.schema.openAPIV3Schema.type"
            if "type" not in schema:
                yield required(field, "must not be empty at the root")
            else:
                yield invalid(field, schema["type"], "must be object at the root")


def openapi_name(kind: Kind) -> str:
    """Of the schema in the OpenAPI documents."""
    if not kind.custom:
        return definition_name(kind)
    return ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])
