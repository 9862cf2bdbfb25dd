"""Tables: the columns that `kubectl get` prints, as the server makes them."""

import re
from typing import Any

from infra.emulators.kubernetes.columns import BUILTIN, Cells, aged, named
from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.moments import age
from infra.emulators.kubernetes.objects import Object


def table(
    kind: Kind, items: list[Object], metadata: dict[str, Any], *, version: dict[str, Any], include: str, headed: bool
) -> dict[str, Any]:
    """meta.k8s.io/v1 Table. `version` is a custom kind's entry in its definition; `include` the rows' objects' form."""
    columns, cells = _of(kind, version)
    rows = []
    for obj in items:
        row: dict[str, Any] = {"cells": cells(obj)}
        if include == "Object":
            row["object"] = obj
        elif include != "None":
            row["object"] = partial(obj)
        rows.append(row)
    kept = {key: metadata[key] for key in ("resourceVersion", "continue", "remainingItemCount") if key in metadata}
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": kept,
        "columnDefinitions": columns if headed else None,
        "rows": rows,
    }


def partial(obj: Object) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def _of(kind: Kind, version: dict[str, Any]) -> tuple[list[dict[str, Any]], Cells]:
    if kind.custom:
        return _custom(version)
    names, cells = BUILTIN.get(kind.resource, (("Name", "Age"), lambda obj: [named(obj), aged(obj)]))
    return [_column(name) for name in names], cells


def _column(name: str) -> dict[str, Any]:
    """A name that ends in * is shown in wide output only."""
    wide = name.endswith("*")
    name = name.rstrip("*")
    form = "name" if name == "Name" else ""
    kind = "integer" if name in ("Data", "Secrets", "Value") else "string"
    return {"name": name, "type": kind, "format": form, "description": name, "priority": int(wide)}


def _custom(version: dict[str, Any]) -> tuple[list[dict[str, Any]], Cells]:
    extra = version.get("additionalPrinterColumns") or [
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
    ]
    columns = [_column("Name")] + [
        {
            "name": one["name"],
            "type": one["type"],
            "format": one.get("format", ""),
            "description": one.get("description", "") or f"Custom resource definition column: {one['jsonPath']}",
            "priority": one.get("priority", 0),
        }
        for one in extra
    ]

    def cells(obj: Object) -> list[Any]:
        return [named(obj), *(_printed(at_path(obj, one["jsonPath"]), one["type"]) for one in extra)]

    return columns, cells


def _printed(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "date":
        return age(str(value))
    return value if isinstance(value, (str, int, float, bool)) else str(value)


_STEP = re.compile(
    r"""
    \.(?P<name>[^.\[\]]+)                                                          # .spec
    | \[['"](?P<quoted>[^'"]+)['"]\]                                               # ['a/b']
    | \[(?P<index>\d+)\]                                                          # [0]
    | \[\?\(@\.(?P<key>[\w.]+)\s*==\s*['"](?P<is>[^'"]*)['"]\)\]                    # [?(@.type=="Ready")]
    """,
    re.VERBOSE,
)


def at_path(obj: Any, path: str) -> Any:
    """What a simple JSONPath finds first, or None: .status.conditions[?(@.type=="Ready")].status."""
    for step in _STEP.finditer(path.replace("\\.", "\0")):
        name = step["name"] or step["quoted"]
        if name is not None:
            obj = obj.get(name.replace("\0", ".")) if isinstance(obj, dict) else None
        elif step["index"] is not None:
            obj = obj[int(step["index"])] if isinstance(obj, list) and int(step["index"]) < len(obj) else None
        else:
            items = obj if isinstance(obj, list) else []
            obj = next((one for one in items if at_path(one, "." + step["key"]) == step["is"]), None)
    return obj
