"""Create, read, update, patch, delete: what every resource has, as HTTP asks for it."""

from dataclasses import dataclass, field
from typing import Final

from infra.emulators.kubernetes import managers, structural
from infra.emulators.kubernetes.decoding import cannot_be_handled, decode, json_type
from infra.emulators.kubernetes.definitions import schema_of_kind
from infra.emulators.kubernetes.delete_options import DeleteOptions, delete_options
from infra.emulators.kubernetes.kinds import NAMESPACES, Kind
from infra.emulators.kubernetes.lists import selector
from infra.emulators.kubernetes.objects import Object, Objects, copied
from infra.emulators.kubernetes.patches import json_patch, merge_patch, strategic_merge_patch
from infra.emulators.kubernetes.requests import Request, parsed, parsed_object
from infra.emulators.kubernetes.statuses import (
    BadRequest,
    Invalid,
    MethodNotSupported,
    NotFound,
    UnsupportedMediaType,
    forbidden,
    invalid,
    required,
    unsupported,
)

JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCHES: Final = ("application/apply-patch+yaml", "application/apply-patch+cbor", "application/apply-patch+json")
_BUILTIN_PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCHES[0])
_CUSTOM_PATCHES = (JSON_PATCH, MERGE_PATCH, APPLY_PATCHES[0])
_VALIDATIONS = ("Ignore", "Strict", "Warn")


@dataclass(frozen=True, slots=True)
class Result:
    """`code` is the HTTP status; `warnings` go into headers."""

    object: Object
    code: int = 200
    warnings: list[str] = field(default_factory=list)


class Resources:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def create(self, kind: Kind, namespace: str, request: Request) -> Result:
        """Raises StatusError."""
        _allow(kind, "create")
        dry_run = _dry_run(request, kind, "CreateOptions")
        obj, warnings = self._decoded(kind, await request.object(), request)
        _place(kind, obj, namespace)
        schema = schema_of_kind(self._objects, kind)
        obj = managers.changed(kind, None, obj, schema, request.manager)
        return Result(await self._objects.create(kind, obj, dry_run=dry_run), 201, warnings)

    async def replace(self, kind: Kind, namespace: str, name: str, request: Request, subresource: str = "") -> Result:
        """Raises StatusError."""
        _allow(kind, "update")
        dry_run = _dry_run(request, kind, "UpdateOptions")
        obj, warnings = self._decoded(kind, await request.object(), request)
        _place(kind, obj, namespace)
        metadata = obj["metadata"]
        if not metadata.get("name"):
            raise BadRequest("name must be provided")
        _check_name(metadata, name)
        old = self._objects.get(kind, namespace, name)
        if kind.custom and not metadata.get("resourceVersion"):
            fault = invalid("metadata.resourceVersion", 0, "must be specified for an update")
            raise Invalid(kind, name, [fault])
        return Result(await self._update(kind, obj, old, request, subresource, dry_run=dry_run), 200, warnings)

    async def patch(self, kind: Kind, namespace: str, name: str, request: Request, subresource: str = "") -> Result:
        """Raises StatusError."""
        _allow(kind, "patch")
        dry_run = _dry_run(request, kind, "PatchOptions")
        form = request.content_type
        supported = _CUSTOM_PATCHES if kind.custom else _BUILTIN_PATCHES
        if form not in supported and form != APPLY_PATCHES[2]:
            raise UnsupportedMediaType(supported)
        body = await request.body()
        if form in APPLY_PATCHES:
            return await self._apply(kind, namespace, name, body, request, subresource, dry_run=dry_run)
        if request.query.get("force"):
            raise _options_invalid("PatchOptions", "force", "may not be specified for non-apply patch")
        change = parsed(body)
        old = {**self._objects.get(kind, namespace, name), "apiVersion": kind.api_version}
        if form == JSON_PATCH:
            patched = json_patch(old, change)
        elif not isinstance(change, dict):
            raise BadRequest(f"error decoding patch: json: cannot unmarshal {type(change).__name__} into an object")
        elif form == MERGE_PATCH:
            patched = merge_patch(old, change)
        else:
            patched = strategic_merge_patch(old, change, schema_of_kind(self._objects, kind))
        if not isinstance(patched, dict) or not isinstance(patched.get("metadata"), dict):
            raise BadRequest("the patch leaves no object with metadata")
        obj, warnings = self._decoded(kind, patched, request)
        _place(kind, obj, namespace)
        _check_name(obj["metadata"], name)
        return Result(await self._update(kind, obj, old, request, subresource, dry_run=dry_run), 200, warnings)

    async def delete(self, kind: Kind, namespace: str, name: str, request: Request) -> Object:
        """The object's last state. Raises StatusError."""
        _allow(kind, "delete")
        return await self._delete(kind, namespace, name, await delete_options(request))

    async def delete_collection(self, kind: Kind, namespace: str, request: Request) -> list[Object]:
        """What was deleted. Raises StatusError."""
        _allow(kind, "deletecollection")
        options = await delete_options(request)
        selects = selector(kind, request.query)
        deleted = []
        for obj in self._objects.list(kind, namespace)[0]:
            if selects(obj):
                metadata = obj["metadata"]
                try:
                    deleted.append(await self._delete(kind, metadata.get("namespace", ""), metadata["name"], options))
                except NotFound:
                    continue
        return deleted

    async def _delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions) -> Object:
        return await self._objects.delete(
            kind,
            namespace,
            name,
            grace_s=options.grace_s,
            uid=options.uid,
            resource_version=options.resource_version,
            propagation=options.propagation,
            dry_run=options.dry_run,
        )

    async def _update(
        self, kind: Kind, obj: Object, old: Object, request: Request, subresource: str, *, dry_run: bool
    ) -> Object:
        schema = schema_of_kind(self._objects, kind)
        seen = _as_written(kind, obj, old, subresource)
        seen = managers.changed(kind, old, seen, schema, request.manager, subresource)
        seen["metadata"]["resourceVersion"] = obj["metadata"].get("resourceVersion")
        return await self._objects.update(kind, seen, subresource=subresource, dry_run=dry_run)

    async def _apply(
        self, kind: Kind, namespace: str, name: str, body: bytes, request: Request, subresource: str, *, dry_run: bool
    ) -> Result:
        manager = request.query.get("fieldManager", "")
        if not manager:
            raise Invalid(_options("PatchOptions"), "", [required("fieldManager", "is required for apply patch")])
        config, warnings = self._decoded(kind, parsed_object(body, yaml_too=True), request, apply=True)
        metadata = config["metadata"]
        if metadata.get("managedFields"):
            raise BadRequest("metadata.managedFields must be nil")
        metadata.setdefault("name", name)
        _check_name(metadata, name)
        _place(kind, config, namespace)
        try:
            old = {**self._objects.get(kind, namespace, name), "apiVersion": kind.api_version}
        except NotFound:
            if subresource or metadata.get("resourceVersion"):
                raise
            old = None
        if uid := metadata.get("uid"):
            self._check_uid(kind, old, uid, name)
        config = _as_written(kind, config, {"metadata": {}}, subresource) if subresource == "status" else config
        schema = schema_of_kind(self._objects, kind)
        result = managers.applied(
            kind, old, config, schema, manager, force=request.flag("force"), subresource=subresource
        )
        if old is None:
            return Result(await self._objects.create(kind, result, dry_run=dry_run), 201, warnings)
        result["metadata"]["resourceVersion"] = metadata.get("resourceVersion")
        return Result(await self._objects.update(kind, result, subresource=subresource, dry_run=dry_run), 200, warnings)

    @staticmethod
    def _check_uid(kind: Kind, old: Object | None, uid: str, name: str) -> None:
        if old is None:
            raise NotFound(kind, name)

    def _decoded(self, kind: Kind, obj: Object, request: Request, *, apply: bool = False) -> tuple[Object, list[str]]:
        """What is kept of a body, and warnings of what is not. Raises BadRequest."""
        mode = request.query.get("fieldValidation") or "Warn"
        if mode not in _VALIDATIONS:
            raise Invalid(_options("CreateOptions"), "", [unsupported("fieldValidation", mode, _VALIDATIONS)])
        self._check_kind(kind, obj)
        obj = {**obj, "apiVersion": kind.api_version, "kind": kind.kind}
        if not isinstance(obj.get("metadata") or {}, dict):
            seen = json_type(obj["metadata"])
            why = f"json: cannot unmarshal {seen} into Go struct field {kind.kind}.metadata of type v1.ObjectMeta"
            raise BadRequest(cannot_be_handled(kind, why))
        obj["metadata"] = obj.get("metadata") or {}
        if kind.custom:
            decoded, unknown = self._custom(kind, obj)
        else:
            decoded, unknown = decode(kind, obj)
        decoded.setdefault("metadata", {})
        if unknown and mode == "Strict":
            raise BadRequest(cannot_be_handled(kind, f"strict decoding error: {', '.join(unknown)}"))
        return decoded, unknown if mode == "Warn" else []

    def _check_kind(self, kind: Kind, obj: Object) -> None:
        """Raises BadRequest: the body says that it is of another."""
        said, other = str(obj.get("apiVersion") or kind.api_version), str(obj.get("kind") or kind.kind)
        if (said, other) == (kind.api_version, kind.kind):
            return
        version = said.rpartition("/")[2]
        why = f'no kind "{other}" is registered for version "{said}" in scheme "pkg/api/legacyscheme/scheme.go:30"'
        if found := self._objects.kinds.of_object(said, other):
            why = f"converting ({found.version}.{found.kind}) to (core.{kind.kind}): unknown conversion"
        raise BadRequest(f'{other} in version "{version}" cannot be handled as a {kind.kind}: {why}')

    def _custom(self, kind: Kind, obj: Object) -> tuple[Object, list[str]]:
        metadata, unknown_meta = decode(NAMESPACES, {"metadata": obj["metadata"]})
        schema = schema_of_kind(self._objects, kind)
        body = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}
        kept, unknown = structural.pruned(body, {**schema, "x-kubernetes-embedded-resource": False})
        whole = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], **metadata, **kept}
        return whole, [*unknown_meta, *(f'unknown field "{path}"' for path in unknown)]


def _as_written(kind: Kind, obj: Object, old: Object, subresource: str) -> Object:
    """What an update to that subresource leaves of `obj`: only the status, or all but the status."""
    seen = copied(obj)
    if subresource == "status":
        metadata = copied(obj["metadata"])
        if not kind.status_has_metadata and old["metadata"]:
            metadata = {**copied(old["metadata"]), "managedFields": metadata.get("managedFields")}
            if metadata["managedFields"] is None:
                del metadata["managedFields"]
        return {**copied(old), "apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata} | (
            {"status": obj["status"]} if "status" in obj else {}
        )
    if kind.has_status:
        seen.pop("status", None)
        if "status" in old:
            seen["status"] = copied(old["status"])
    return seen


def _place(kind: Kind, obj: Object, namespace: str) -> None:
    """Set the object's namespace from the URL's. Raises BadRequest: it names another."""
    said = obj["metadata"].get("namespace", "")
    if kind.namespaced:
        if said and said != namespace:
            raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
        obj["metadata"]["namespace"] = namespace
    elif said:
        raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")


def _check_name(metadata: Object, name: str) -> None:
    """Raises BadRequest."""
    said = metadata.get("name") or ""
    if said != name:
        raise BadRequest(f"the name of the object ({said}) does not match the name on the URL ({name})")


def _allow(kind: Kind, verb: str) -> None:
    if verb not in kind.verbs:
        raise MethodNotSupported


def _options(of: str) -> Kind:
    return Kind("meta.k8s.io", "v1", "options", of)


def _options_invalid(of: str, where: str, why: str) -> Invalid:
    return Invalid(_options(of), "", [forbidden(where, why)])


def _dry_run(request: Request, kind: Kind, options: str) -> bool:
    said = request.query.get("dryRun", "")
    if said not in ("", "All"):
        raise Invalid(_options(options), "", [unsupported("dryRun", [said], ("All",))])
    return said == "All"
