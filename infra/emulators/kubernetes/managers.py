"""Who owns which field (metadata.managedFields), and server-side apply, which goes by it."""

from datetime import UTC, datetime
from typing import Any

from infra.emulators.kubernetes.fieldsets import UNOWNED, Path, leaves, merged, pruned, read, told, written
from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.moments import timestamp
from infra.emulators.kubernetes.objects import copied
from infra.emulators.kubernetes.schemas import Schema
from infra.emulators.kubernetes.statuses import ApplyConflict

Object = dict[str, Any]
_Owner = tuple[str, str, str, str]  # manager, operation, subresource, apiVersion


def changed(kind: Kind, old: Object | None, new: Object, schema: Schema, manager: str, subresource: str = "") -> Object:
    """`new` with its managedFields, after a write that is no apply: the fields that it changed are the writer's."""
    before, after = leaves(old or {}, schema), leaves(new, schema)
    theirs = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = set(before) - set(after)
    said = new["metadata"].get("managedFields")
    entries = said if said is not None else (old or {"metadata": {}})["metadata"].get("managedFields") or []
    entries = [] if entries == [{}] else entries
    if not theirs and not gone:
        return _with(new, entries)
    me: _Owner = (manager, "Update", subresource, kind.api_version)
    owners, times = _opened(entries)
    for owner in owners:
        owners[owner] -= gone if owner == me else gone | theirs
    owners[me] = owners.get(me, set()) | theirs
    times[me] = timestamp(datetime.now(UTC))
    return _with(new, _closed(owners, times))


def applied(
    kind: Kind, live: Object | None, config: Object, schema: Schema, manager: str, *, force: bool, subresource: str = ""
) -> Object:
    """`config` applied to `live`. Raises ApplyConflict: fields that it changes belong to others."""
    config = copied(config)
    config["metadata"].pop("managedFields", None)
    before = live or {"metadata": {}}
    owners, times = _opened(before["metadata"].get("managedFields") or [])
    me: _Owner = (manager, "Apply", subresource, kind.api_version)
    mine = next((owner for owner in owners if owner[:3] == me[:3]), None)
    had = owners.pop(mine, set()) if mine else set()
    wanted = set(leaves(config, schema))
    result: Object = merged(copied(before), config, schema)
    old, new = leaves(before, schema), leaves(result, schema)
    touched = {path for path, value in new.items() if path not in old or old[path] != value}
    conflicts = {owner: paths & touched for owner, paths in owners.items() if paths & touched}
    if conflicts and not force:
        raise _conflict(conflicts)
    for owner, paths in conflicts.items():
        owners[owner] -= paths
    others = set().union(*owners.values()) if owners else set()
    result = pruned(result, had - wanted - others - UNOWNED, schema)
    owners[me] = wanted
    unchanged = mine == me and had == wanted and leaves(result, schema) == old
    times[me] = times.get(me, "") if unchanged else timestamp(datetime.now(UTC))
    return _with(result, _closed(owners, times))


def _with(obj: Object, entries: list[Object]) -> Object:
    obj["metadata"].pop("managedFields", None)
    if entries:
        obj["metadata"]["managedFields"] = entries
    return obj


def _opened(entries: list[Object]) -> tuple[dict[_Owner, set[Path]], dict[_Owner, str]]:
    owners: dict[_Owner, set[Path]] = {}
    times: dict[_Owner, str] = {}
    for entry in entries:
        owner = (
            entry.get("manager", "unknown"),
            entry.get("operation", "Update"),
            entry.get("subresource", ""),
            entry.get("apiVersion", ""),
        )
        owners[owner] = owners.get(owner, set()) | read(entry.get("fieldsV1") or {})
        times[owner] = entry.get("time", "")
    return owners, times


def _closed(owners: dict[_Owner, set[Path]], times: dict[_Owner, str]) -> list[Object]:
    entries = []
    # Appliers first, as the real server sorts them.
    for owner in sorted(owners, key=lambda owner: (owner[1] != "Apply", times.get(owner, ""), owner)):
        if not owners[owner]:
            continue
        manager, operation, subresource, api_version = owner
        entry = {
            "manager": manager,
            "operation": operation,
            "apiVersion": api_version,
            "time": times.get(owner, ""),
            "fieldsType": "FieldsV1",
            "fieldsV1": written(owners[owner]),
        }
        entries.append({**entry, "subresource": subresource} if subresource else entry)
    return entries


def _conflict(conflicts: dict[_Owner, set[Path]]) -> ApplyConflict:
    causes: list[dict[str, str]] = []
    lines: list[str] = []
    count = sum(map(len, conflicts.values()))
    for (manager, operation, subresource, api_version), paths in sorted(conflicts.items()):
        named = f'"{manager}"' + (f' with subresource "{subresource}"' if subresource else "")
        named += f" using {api_version}" if operation == "Update" else ""
        fields = sorted(map(told, paths))
        causes += [
            {"reason": "FieldManagerConflict", "message": f"conflict with {named}", "field": field} for field in fields
        ]
        lines.append(
            f"conflict with {named}: {fields[0]}"
            if len(fields) == 1
            else f"conflicts with {named}:" + "".join(f"\n- {field}" for field in fields)
        )
    many = "conflict" if count == 1 else "conflicts"
    return ApplyConflict(f"Apply failed with {count} {many}: " + "\n".join(lines), {"causes": causes})
