"""Which fields an object has: paths into it as managedFields writes them, with lists keyed as their schema says.

A path is a tuple of elements: f:NAME, k:{"key":value} for an item of a keyed list, v:VALUE for a member of a set.
"""

import json
from typing import Any, Final

from infra.emulators.kubernetes.schemas import Schema, key_default, resolved

Path = tuple[str, ...]

# No manager owns what names the object or what only the server sets.
UNOWNED: Final = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata",)}
    | {
        ("f:metadata", f"f:{field}")
        for field in (
            "clusterName", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generateName",
            "generation", "managedFields", "name", "namespace", "resourceVersion", "selfLink", "uid",
        )
    }
)  # fmt: skip


def leaves(obj: dict[str, Any], schema: Schema) -> dict[Path, Any]:
    """Every owned path with its value; a keyed item's own path has None."""
    found: dict[Path, Any] = {}
    _walk(obj, schema, (), found)
    return {path: value for path, value in found.items() if path not in UNOWNED and path[:2] not in UNOWNED}


def _walk(value: Any, schema: Schema, path: Path, found: dict[Path, Any]) -> None:
    schema = resolved(schema)
    if isinstance(value, dict) and value and schema.get("x-kubernetes-map-type") != "atomic":
        for key, one in value.items():
            _walk(one, member(schema, key), (*path, f"f:{key}"), found)
    elif isinstance(value, list) and (kind := list_kind(schema)) != "atomic" and value:
        for one in value:
            element = item_element(one, schema)
            if kind == "map":
                found[*path, element] = None
                _walk(one, schema.get("items", {}), (*path, element), found)
            else:
                found[*path, element] = one
    else:
        found[path] = value


def member(schema: Schema, key: str) -> Schema:
    """The schema of a map's or a struct's member; {} stands for anything."""
    known = schema.get("properties", {})
    if key in known:
        return resolved(known[key])
    beyond = schema.get("additionalProperties")
    return resolved(beyond) if isinstance(beyond, dict) else {}


def list_kind(schema: Schema) -> str:
    kind: str = schema.get("x-kubernetes-list-type", "atomic")
    return kind


def item_element(item: Any, schema: Schema) -> str:
    if list_kind(schema) == "set" or not isinstance(item, dict):
        return f"v:{json.dumps(item, separators=(',', ':'))}"
    keys = {}
    for key in sorted(schema.get("x-kubernetes-list-map-keys", ())):
        value = item.get(key, member(resolved(schema.get("items", {})), key).get("default", key_default(key)))
        if value is not None:
            keys[key] = value
    return f"k:{json.dumps(keys, separators=(',', ':'))}"


def written(paths: set[Path]) -> dict[str, Any]:
    """As fieldsV1."""
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        at = tree
        for element in path:
            at = at.setdefault(element, {})
        at["."] = {}
    return _without_lone_dots(tree)


def _without_lone_dots(tree: dict[str, Any]) -> dict[str, Any]:
    if set(tree) == {"."}:
        return {}
    return {key: _without_lone_dots(value) if key != "." else {} for key, value in tree.items()}


def read(tree: dict[str, Any]) -> set[Path]:
    found: set[Path] = set()

    def walk(at: dict[str, Any], path: Path) -> None:
        if not at and path:
            found.add(path)
        for key, value in at.items():
            if key == ".":
                found.add(path)
            elif isinstance(value, dict):
                walk(value, (*path, key))

    walk(tree, ())
    return found


def told(path: Path) -> str:
    """As conflicts name it: .spec.containers[name="a"].image."""
    text = ""
    for element in path:
        sort, _, value = element.partition(":")
        if sort == "f":
            text += f".{value}"
        elif sort == "k":
            pairs = (f"{key}={json.dumps(one)}" for key, one in json.loads(value).items())
            text += f"[{','.join(pairs)}]"
        else:
            text += f"[={value}]"
    return text


def merged(live: Any, config: Any, schema: Schema) -> Any:
    """`config` laid over `live`, as an apply does."""
    schema = resolved(schema)
    if isinstance(config, dict) and schema.get("x-kubernetes-map-type") != "atomic":
        result = dict(live) if isinstance(live, dict) else {}
        for key, value in config.items():
            result[key] = merged(result.get(key), value, member(schema, key))
        return result
    kind = list_kind(schema)
    if not isinstance(config, list) or not isinstance(live, list) or kind == "atomic":
        return config
    wanted = {item_element(one, schema): one for one in config}
    had = {item_element(one, schema): one for one in live}
    # What the applier lists comes in its order; what others added stays where it was, after it.
    result_list = [merged(had.get(key), one, schema.get("items", {})) for key, one in wanted.items()]
    return result_list + [one for key, one in had.items() if key not in wanted]


def pruned(obj: Any, paths: set[Path], schema: Schema) -> Any:
    """`obj` without the fields of `paths`; maps and lists that lose all that they had go too."""
    for path in sorted(paths, key=len, reverse=True):
        _prune(obj, path, schema)
    return obj


def _prune(at: Any, path: Path, schema: Schema) -> None:
    parents: list[tuple[Any, Any, bool]] = []  # the holder, the key in it, whether the holder may go when it is empty
    for element in path:
        schema = resolved(schema)
        sort, _, name = element.partition(":")
        key: Any = name
        if sort != "f":
            items = enumerate(at) if isinstance(at, list) else ()
            key = next((index for index, one in items if item_element(one, schema) == element), None)
        if key is None or (sort == "f" and (not isinstance(at, dict) or key not in at)):
            return
        parents.append((at, key, "properties" not in schema))
        at, schema = at[key], member(schema, name) if sort == "f" else schema.get("items", {})
    for holder, key, may_go in reversed(parents):
        del holder[key]
        if holder or not may_go:
            return
