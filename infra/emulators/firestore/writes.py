"""A list of writes as one step: preconditions, masks, field transforms, and the documents that come out."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from google.api_core import exceptions

from . import fields as paths
from . import names, values
from .messages import Document, Message, WriteResult, microseconds, timestamp
from .names import Name
from .storage import Storage
from .transforms import transform


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit did to one document. None stands for no document."""

    name: Name
    before: Message | None
    after: Message | None


@dataclass(slots=True)
class _Draft:
    """A document while the writes of one commit pass over it."""

    name: Name
    stored: Message | None
    current: Message | None
    inserted: bool = False
    transform_results: list[list[Message]] = field(default_factory=list)


def target(write: Message, database: str) -> Name:
    """The document that a write is about. Raises InvalidArgument."""
    match write.WhichOneof("operation"):
        case "update":
            name = names.document(write.update.name, writing=True)
        case "delete":
            name = names.document(write.delete, writing=True)
        case "transform":
            name = names.document(write.transform.document, writing=True)
        case _:
            raise exceptions.InvalidArgument("empty write operation")
    if name.database != database:
        raise exceptions.InvalidArgument(f'Document "{name}" is not in database "{database}".')
    return name


def apply(
    storage: Storage, database: str, writes: Iterable[Message], time_us: int
) -> tuple[list[Message], list[Change]]:
    """Store the writes with one commit time, inside `storage.commit()`; answers their WriteResults and the changes.

    A document that comes out as it was keeps its update time and is no change. Raises NotFound, AlreadyExists and
    FailedPrecondition for preconditions, InvalidArgument for what cannot be stored.
    """
    drafts: dict[Name, _Draft] = {}
    steps: list[tuple[_Draft, list[Message]]] = []
    for write in writes:
        name = target(write, database)
        draft = drafts.get(name)
        if draft is None:
            stored = storage.get(name)
            draft = drafts[name] = _Draft(name, stored, stored)
        _check_precondition(write, draft)
        steps.append((draft, _apply_one(write, draft, time_us)))
    changes = [change for draft in drafts.values() if (change := _settle(storage, draft, time_us))]
    results = []
    for draft, transformed in steps:
        result = WriteResult(transform_results=transformed)
        if draft.current is not None:
            result.update_time.CopyFrom(draft.current.update_time)
        results.append(result)
    return results, changes


def _check_precondition(write: Message, draft: _Draft) -> None:
    condition = write.current_document
    exists = draft.current is not None
    match condition.WhichOneof("condition_type"):
        case "exists" if condition.exists and not exists:
            raise exceptions.NotFound(f"No document to update: {draft.name}")
        case "exists" if exists and not condition.exists:
            if draft.inserted:
                raise exceptions.InvalidArgument("Cannot insert then insert an entity in the same request.")
            raise exceptions.AlreadyExists(f"Document already exists: {draft.name}")
        case "update_time":
            wanted = microseconds(condition.update_time)
            found = microseconds(draft.current.update_time) if draft.current is not None else 0
            if wanted != found:
                raise exceptions.FailedPrecondition(
                    f"the stored version ({found}) does not match the required base version ({wanted})"
                )


def _apply_one(write: Message, draft: _Draft, time_us: int) -> list[Message]:
    operation = write.WhichOneof("operation")
    if operation == "delete":
        if write.HasField("update_mask") or write.update_transforms:
            raise exceptions.InvalidArgument("a delete must not specify a document mask or an update transform.")
        draft.current = None
        return []
    draft.inserted = draft.inserted or draft.current is None
    document = Document(name=str(draft.name))
    if draft.current is not None:
        document.CopyFrom(draft.current)
    if operation == "update":
        if write.HasField("update_mask"):
            for path in [paths.parse(text) for text in write.update_mask.field_paths]:
                _copy_field(write.update.fields, document.fields, path)
        else:
            document.ClearField("fields")
            for key, value in write.update.fields.items():
                document.fields[key].CopyFrom(value)
        steps = write.update_transforms
    else:
        steps = write.transform.field_transforms
        if not steps:
            raise exceptions.InvalidArgument("The list of FieldTransform must not be empty.")
    results = transform(document.fields, steps, time_us)
    values.check_fields(document.fields)
    draft.current = document
    return results


def _copy_field(source: Message, destination: Message, path: paths.FieldPath) -> None:
    if path == paths.NAME:
        return
    value = paths.lookup(source, path)
    if value is None:
        paths.remove(destination, path)
    else:
        paths.ensure(destination, path).CopyFrom(value)


def _settle(storage: Storage, draft: _Draft, time_us: int) -> Change | None:
    """Store what became of a document, if anything did."""
    if draft.current is None:
        if draft.stored is None:
            return None
        storage.delete(draft.name, draft.stored)
        return Change(draft.name, draft.stored, None)
    if draft.stored is not None and _same_fields(draft.stored, draft.current):
        draft.current = draft.stored
        return None
    if values.document_size(draft.name.path, draft.current.fields) > values.MAX_DOCUMENT_BYTES:
        raise exceptions.InvalidArgument(f"maximum entity size is {values.MAX_DOCUMENT_BYTES} bytes")
    if draft.stored is None:
        draft.current.create_time.CopyFrom(timestamp(time_us))
    draft.current.update_time.CopyFrom(timestamp(time_us))
    storage.put(draft.name, draft.stored, draft.current)
    return Change(draft.name, draft.stored, draft.current)


def _same_fields(one: Message, other: Message) -> bool:
    """Byte for byte, so that NaN equals itself and 1 is not 1.0."""
    return _fields_bytes(one) == _fields_bytes(other)


def _fields_bytes(document: Message) -> bytes:
    bare = Document(fields=document.fields)
    return bytes(bare.SerializeToString(deterministic=True))
