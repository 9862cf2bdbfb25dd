"""The OpenAPI documents: what kubectl explains, validates and merges by."""

import asyncio
from typing import Any

from infra.emulators.kubernetes.definitions import openapi_name, schema_of_kind
from infra.emulators.kubernetes.discovery import VERSION
from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.objects import Objects
from infra.emulators.kubernetes.schemas import PREFIX, definitions
from infra.emulators.kubernetes.statuses import NoSuchPath, NotAcceptable

_V3_PREFIX = "#/components/schemas/"


async def document(objects: Objects, path: str, accept: str) -> dict[str, Any]:
    """Raises NoSuchPath, NotAcceptable: only JSON is served."""
    if accept and not any(form in accept for form in ("application/json", "*/*", "application/*")):
        raise NotAcceptable(["application/json"])
    await asyncio.to_thread(definitions)
    if path == "/openapi/v2":
        return _v2(objects)
    if path == "/openapi/v3":
        return {"paths": {at: {"serverRelativeURL": f"/openapi/v3/{at}"} for at in sorted(_served(objects))}}
    at = path.removeprefix("/openapi/v3/")
    if at not in (served := _served(objects)):
        raise NoSuchPath
    return _v3(objects, served[at])


def _served(objects: Objects) -> dict[str, list[Kind]]:
    found: dict[str, list[Kind]] = {}
    for kind in objects.kinds:
        at = f"apis/{kind.api_version}" if kind.group else f"api/{kind.version}"
        found.setdefault(at, []).append(kind)
    return found


def _schemas(objects: Objects, kinds: list[Kind]) -> dict[str, Any]:
    schemas = dict(definitions())
    for kind in kinds:
        if kind.custom:
            about = {"group": kind.group, "kind": kind.kind, "version": kind.version}
            schemas[openapi_name(kind)] = {
                **schema_of_kind(objects, kind),
                "x-kubernetes-group-version-kind": [about],
            }
    return schemas


def _info() -> dict[str, str]:
    return {"title": "Kubernetes", "version": VERSION["gitVersion"]}


def _v2(objects: Objects) -> dict[str, Any]:
    kinds = list(objects.kinds)
    paths: dict[str, Any] = {}
    for kind in kinds:
        paths |= _paths(kind, PREFIX)
    return {"swagger": "2.0", "info": _info(), "paths": paths, "definitions": _schemas(objects, kinds)}


def _v3(objects: Objects, kinds: list[Kind]) -> dict[str, Any]:
    """Only what the group's kinds need, each reference in the form of version 3."""
    schemas = _schemas(objects, kinds)
    wanted, kept = [openapi_name(kind) for kind in kinds], {}
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = _referred(schemas[name], wanted)
    paths: dict[str, Any] = {}
    for kind in kinds:
        paths |= _paths(kind, _V3_PREFIX)
    return {"openapi": "3.0.0", "info": _info(), "paths": paths, "components": {"schemas": kept}}


def _referred(schema: Any, wanted: list[str]) -> Any:
    if isinstance(schema, list):
        return [_referred(one, wanted) for one in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str) and value.startswith(PREFIX):
            wanted.append(value.removeprefix(PREFIX))
            reference = {"$ref": _V3_PREFIX + value.removeprefix(PREFIX)}
            if len(schema) == 1:
                return reference
            changed["allOf"] = [reference]
        else:
            changed[key] = _referred(value, wanted)
    return changed


def _paths(kind: Kind, prefix: str) -> dict[str, Any]:
    """The operations of one kind, with the parameters by which kubectl tells what the server can do."""
    about = {"group": kind.group, "kind": kind.kind, "version": kind.version}
    root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
    many = f"{root}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{root}/{kind.plural}"
    reference = {"$ref": prefix + openapi_name(kind)}
    version_2 = prefix == PREFIX

    def operation(action: str, *parameters: str) -> dict[str, Any]:
        answer = {"schema": reference} if version_2 else {"content": {"application/json": {"schema": reference}}}
        return {
            "operationId": f"{action}{kind.version.capitalize()}{kind.kind}",
            "parameters": [
                {"in": "query", "name": name, **({"type": "string"} if version_2 else {"schema": {"type": "string"}})}
                for name in parameters
            ],
            "responses": {"200": {"description": "OK", **answer}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": about,
        }

    changing = ("dryRun", "fieldManager", "fieldValidation")
    return {
        many: {"get": operation("list"), "post": operation("post", *changing)},
        f"{many}/{{name}}": {
            "get": operation("get"),
            "put": operation("put", *changing),
            "patch": operation("patch", *changing, "force"),
            "delete": operation("delete", "dryRun"),
        },
    }
