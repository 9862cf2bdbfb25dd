"""Listing documents and collections in pages, with the documents that exist only as parents of others."""

from google.api_core import exceptions

from . import fields as paths
from . import names
from . import query as queries
from .engine import View
from .messages import Cursor, Document, Message, StructuredQuery, Value
from .names import Name
from .storage import Storage

DEFAULT_PAGE = 300
MAX_PAGE = 1000


def list_documents(view: View, request: Message) -> tuple[list[Message], str]:
    """One page of ListDocuments and the token of the next. Raises InvalidArgument, FailedPrecondition."""
    size = _page_size(request.page_size)
    order = _read_order(request.order_by)
    query = StructuredQuery(order_by=[*order, {"field": {"field_path": "__name__"}, "direction": _last(order)}])
    if order and order[-1]["field"]["field_path"] == "__name__":
        del query.order_by[-1]
    query.from_.add(collection_id=request.collection_id)
    query.limit.value = size + 1
    if request.page_token:
        query.start_at.CopyFrom(_read_token(request.page_token))
    found = view.run(queries.read(request.parent, query))
    if request.show_missing:
        if request.order_by:
            raise exceptions.InvalidArgument("cannot specify an order when show_missing is true")
        found = _with_missing(view.storage, request, query, found)[: size + 1]
    page, rest = found[:size], found[size:]
    token = _token(query, page[-1]) if rest and page else ""
    if request.HasField("mask"):
        mask = [paths.parse(path) for path in request.mask.field_paths]
        page = [paths.project(document, mask) for document in page]
    return page, token


def list_collection_ids(storage: Storage, parent: Name, page_size: int, token: str) -> tuple[list[str], str]:
    """One page of the ids right below a document or the root, and the token of the next. Raises InvalidArgument."""
    size = _page_size(page_size)
    found = _children(storage, parent, names.encode((*parent.path, token)) if token else b"", size + 1)
    return found[:size], found[size - 1] if len(found) > size else ""


def _children(storage: Storage, parent: Name, after: bytes, limit: int) -> list[str]:
    """The next segments of the collections below a path, each once, jumping over what lies below them."""
    prefix = parent.key
    found: list[str] = []
    while len(found) < limit:
        start = (names.after_prefix(after) or b"\xff") if after else prefix + b"\x10"  # not the path itself
        below = storage.first_below(parent, start)
        if below is None or len(below.path) == len(prefix):
            break
        segment, encoded = names.first_segment(below.path[len(prefix) :])
        found.append(segment)
        after = prefix + encoded
    return found


def _with_missing(storage: Storage, request: Message, query: Message, found: list[Message]) -> list[Message]:
    """The page with the documents that only have subcollections; these have no times."""
    parent = names.parent(request.parent)
    collection = Name(parent.database, (*parent.path, request.collection_id))
    after = names.document(query.start_at.values[-1].reference_value).key if query.start_at.values else b""
    existing = {document.name for document in found}
    ids = _children(storage, collection, after, query.limit.value)
    missing = [Name(parent.database, (*collection.path, id_)) for id_ in ids]
    merged = [*found, *(Document(name=str(name)) for name in missing if str(name) not in existing)]
    return sorted(merged, key=lambda document: names.document(document.name).key)


def _page_size(asked: int) -> int:
    if asked < 0:
        raise exceptions.InvalidArgument("Page size must be nonnegative.")
    return min(asked or DEFAULT_PAGE, MAX_PAGE)


def _read_order(text: str) -> list[Message]:
    """ "a desc, b" as orders. Raises InvalidArgument."""
    orders: list[Message] = []
    for clause in filter(None, (part.strip() for part in text.split(","))):
        path, _, direction = clause.partition(" ")
        if direction.strip().lower() not in ("", "asc", "desc"):
            raise exceptions.InvalidArgument(f'Invalid order by clause "{clause}".')
        orders.append({"field": {"field_path": path}, "direction": 2 if direction.strip().lower() == "desc" else 1})
    return orders


def _last(order: list[Message]) -> int:
    return int(order[-1]["direction"]) if order else 1


def _token(query: Message, last: Message) -> str:
    cursor = Cursor(before=False)
    for order in query.order_by:
        path = paths.parse(order.field.field_path)
        value = Value(reference_value=last.name) if path == paths.NAME else paths.lookup(last.fields, path)
        cursor.values.append(value)
    return str(cursor.SerializeToString().hex())


def _read_token(token: str) -> Message:
    try:
        return Cursor.FromString(bytes.fromhex(token))
    except Exception as exc:
        raise exceptions.InvalidArgument("invalid page token") from exc
