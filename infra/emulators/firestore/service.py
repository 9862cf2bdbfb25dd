"""google.firestore.v1.Firestore over gRPC: each method reads its request, asks the engine, writes its response.

PartitionQuery, Write and ExecutePipeline are UNIMPLEMENTED, as are vector search and query explanations.
"""

import random
import string
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import TracebackType

import grpc
from google.api_core import exceptions

from .. import rpc
from . import aggregate, browse, names, writes
from . import fields as paths
from . import messages as m
from . import query as queries
from .declared import Declared
from .engine import Engine, View
from .listen import listen
from .messages import Message
from .transactions import Transaction

_ID_LETTERS = string.ascii_letters + string.digits


class FirestoreEmulator:
    """Firestore on one SQLite file, which is made where it is missing and serves again after a restart.

    One process at a time may open a file. Every project and database exists as soon as it is named, and nobody is
    refused: this is for one machine. With `declared` indexes it refuses queries as production does, else none.
    """

    def __init__(self, path: Path, declared: Declared | None = None) -> None:
        self._path = path
        self._declared = declared
        self._opened: Engine | None = None

    async def __aenter__(self) -> "FirestoreEmulator":
        self._opened = Engine(self._path, self._declared)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What to add to the gRPC server."""
        unary = {
            "GetDocument": rpc.Method(self._get, m.GetDocumentRequest, m.Document),
            "ListDocuments": rpc.Method(self._list, m.ListDocumentsRequest, m.ListDocumentsResponse),
            "CreateDocument": rpc.Method(self._create, m.CreateDocumentRequest, m.Document),
            "UpdateDocument": rpc.Method(self._update, m.UpdateDocumentRequest, m.Document),
            "DeleteDocument": rpc.Method(self._delete, m.DeleteDocumentRequest, m.Empty),
            "BeginTransaction": rpc.Method(self._begin, m.BeginTransactionRequest, m.BeginTransactionResponse),
            "Commit": rpc.Method(self._commit, m.CommitRequest, m.CommitResponse),
            "Rollback": rpc.Method(self._rollback, m.RollbackRequest, m.Empty),
            "BatchWrite": rpc.Method(self._batch_write, m.BatchWriteRequest, m.BatchWriteResponse),
            "ListCollectionIds": rpc.Method(
                self._collection_ids, m.ListCollectionIdsRequest, m.ListCollectionIdsResponse
            ),
        }
        streaming = {
            "BatchGetDocuments": (self._batch_get, m.BatchGetDocumentsRequest, m.BatchGetDocumentsResponse),
            "RunQuery": (self._run_query, m.RunQueryRequest, m.RunQueryResponse),
            "RunAggregationQuery": (
                self._run_aggregation, m.RunAggregationQueryRequest, m.RunAggregationQueryResponse
            ),
        }  # fmt: skip
        methods = unary | {name: rpc.Method(*method, streams="response") for name, method in streaming.items()}
        methods["Listen"] = rpc.Method(self._listen, m.ListenRequest, m.ListenResponse, streams="both")
        return [rpc.service("google.firestore.v1.Firestore", methods)]

    @property
    def _engine(self) -> Engine:
        if self._opened is None:
            raise exceptions.ServiceUnavailable("The Firestore emulator is not open.")
        return self._opened

    async def _get(self, request: Message) -> Message:
        name = names.document(request.name)
        view, _ = await self._view(request, name.database)
        document = view.get(name)
        if document is None:
            raise exceptions.NotFound(f"Document ({request.name}) not found.")
        return _masked(document, request, "mask")

    async def _list(self, request: Message) -> Message:
        view, _ = await self._view(request, names.parent(request.parent).database)
        documents, token = browse.list_documents(view, request)
        return m.ListDocumentsResponse(documents=documents, next_page_token=token)

    async def _collection_ids(self, request: Message) -> Message:
        parent = names.parent(request.parent)
        ids, token = browse.list_collection_ids(self._engine.storage, parent, request.page_size, request.page_token)
        return m.ListCollectionIdsResponse(collection_ids=ids, next_page_token=token)

    async def _create(self, request: Message) -> Message:
        parent = names.parent(request.parent)
        if request.document.name:
            raise exceptions.InvalidArgument("document.name must not be set")
        document_id = request.document_id or "".join(random.choices(_ID_LETTERS, k=20))  # noqa: S311 - a name, no secret
        path = (*parent.path, names.collection_id(request.collection_id), names.document_id(document_id))
        request.document.name = str(names.Name(parent.database, path))
        write = m.Write(update=request.document, current_document={"exists": False})
        return await self._write_one(write, request)

    async def _update(self, request: Message) -> Message:
        write = m.Write(update=request.document)
        for part in ("update_mask", "current_document"):
            if request.HasField(part):
                getattr(write, part).CopyFrom(getattr(request, part))
        return await self._write_one(write, request)

    async def _write_one(self, write: Message, request: Message) -> Message:
        name = names.document(write.update.name, writing=True)
        await self._engine.commit(name.database, [write])
        return _masked(self._engine.storage.get(name), request, "mask")

    async def _delete(self, request: Message) -> Message:
        write = m.Write(delete=request.name)
        if request.HasField("current_document"):
            write.current_document.CopyFrom(request.current_document)
        await self._engine.commit(names.document(request.name).database, [write])
        return m.Empty()

    async def _begin(self, request: Message) -> Message:
        database = names.database(request.database)
        transaction = await self._engine.transactions.begin(database, request.options)
        return m.BeginTransactionResponse(transaction=transaction.id)

    async def _commit(self, request: Message) -> Message:
        database = names.database(request.database)
        transactions = self._engine.transactions
        transaction = transactions.get(request.transaction, database) if request.transaction else None
        committed = False
        try:
            if transaction is not None and transaction.read_only and request.writes:
                raise exceptions.InvalidArgument("Cannot modify entities in a read-only transaction.")
            if not request.writes and (transaction is None or transaction.read_only):
                committed = True
                return m.CommitResponse()
            time_us, results = await self._engine.commit(database, request.writes, transaction)
            committed = True
        finally:
            if transaction is not None:
                transactions.end(transaction, committed=committed)
        return m.CommitResponse(write_results=results, commit_time=m.timestamp(time_us))

    async def _rollback(self, request: Message) -> Message:
        database = names.database(request.database)
        transactions = self._engine.transactions
        if not transactions.is_closed(request.transaction):
            transactions.end(transactions.get(request.transaction, database))
        return m.Empty()

    async def _batch_write(self, request: Message) -> Message:
        database = names.database(request.database)
        targets = [writes.target(write, database) for write in request.writes]
        if len(set(targets)) < len(targets):
            raise exceptions.InvalidArgument("the same document cannot be written more than once in a single request")
        response = m.BatchWriteResponse()
        for write in request.writes:
            result, status = m.WriteResult(), m.Status()
            try:
                _, (result,) = await self._engine.commit(database, [write])
            except exceptions.GoogleAPICallError as exc:
                status = m.Status(code=_code(exc), message=exc.message)
            response.write_results.append(result)
            response.status.append(status)
        return response

    async def _batch_get(self, request: Message) -> AsyncIterator[Message]:
        database = names.database(request.database)
        listed = [names.document(name) for name in dict.fromkeys(request.documents)]
        view, begun = await self._view(request, database)
        read_time = m.timestamp(view.read_time_us)
        found = [(name, view.get(name)) for name in listed]
        if begun is not None:
            yield m.BatchGetDocumentsResponse(transaction=begun.id)
        for name, document in found:
            response = m.BatchGetDocumentsResponse(read_time=read_time)
            if document is None:
                response.missing = str(name)
            else:
                response.found.CopyFrom(_masked(document, request, "mask"))
            yield response

    async def _run_query(self, request: Message) -> AsyncIterator[Message]:
        _refuse_explaining(request)
        if not request.HasField("structured_query"):
            raise exceptions.InvalidArgument("only structured queries are supported")
        query = queries.read(request.parent, request.structured_query)
        view, begun = await self._view(request, query.parent.database)
        read_time = m.timestamp(view.read_time_us)
        documents = view.run(query)
        if begun is not None:
            yield m.RunQueryResponse(transaction=begun.id)
        for index, document in enumerate(documents, start=1):
            response = m.RunQueryResponse(document=queries.selected(query, document), read_time=read_time)
            if index == len(documents):
                response.done = True
            yield response
        if not documents:
            yield m.RunQueryResponse(read_time=read_time, done=True)

    async def _run_aggregation(self, request: Message) -> AsyncIterator[Message]:
        _refuse_explaining(request)
        asked = request.structured_aggregation_query
        aggregations = aggregate.read(asked.aggregations)
        query = queries.read(request.parent, asked.structured_query, aggregate.fields(aggregations))
        view, begun = await self._view(request, query.parent.database)
        numbers = aggregate.compute(aggregations, view.run(query))
        response = m.RunAggregationQueryResponse(
            result={"aggregate_fields": numbers}, read_time=m.timestamp(view.read_time_us)
        )
        if begun is not None:
            response.transaction = begun.id
        yield response

    async def _listen(self, requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
        async for response in listen(self._engine, requests):
            yield response

    async def _view(self, request: Message, database: str) -> tuple[View, Transaction | None]:
        """What the request's consistency selector asks to see; and the transaction it has begun, if it has."""
        match request.WhichOneof("consistency_selector"):
            case "transaction":
                transaction = self._engine.transactions.get(request.transaction, database)
                return self._engine.view(transaction=transaction), None
            case "new_transaction":
                begun = await self._engine.transactions.begin(database, request.new_transaction)
                return self._engine.view(transaction=begun), begun
            case "read_time":
                return self._engine.view(read_time=request.read_time), None
        return self._engine.view(), None


def _masked(document: Message, request: Message, field: str) -> Message:
    if not request.HasField(field):
        return document
    mask: Iterable[str] = getattr(request, field).field_paths
    return paths.project(document, [paths.parse(path) for path in mask])


def _refuse_explaining(request: Message) -> None:
    if request.HasField("explain_options"):
        raise exceptions.MethodNotImplemented("query explanations are not implemented by this emulator")


def _code(exc: exceptions.GoogleAPICallError) -> int:
    return int(exc.grpc_status_code.value[0]) if exc.grpc_status_code is not None else 2
