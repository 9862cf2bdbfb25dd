"""The protobuf classes of google.firestore.v1, bare: proto-plus wrappers would double the time of a read."""

from typing import Any

from google.cloud.firestore_v1.types import document, firestore, query, write
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status

__all__ = ["Empty", "Status", "Timestamp"]

# protobuf classes exist only at run time, so they are Any to the type checker; so are their instances below.
Message = Any

Document: Any = document.Document.pb()
Value: Any = document.Value.pb()

StructuredQuery: Any = query.StructuredQuery.pb()
Cursor: Any = query.Cursor.pb()

WriteResult: Any = write.WriteResult.pb()

GetDocumentRequest: Any = firestore.GetDocumentRequest.pb()
ListDocumentsRequest: Any = firestore.ListDocumentsRequest.pb()
ListDocumentsResponse: Any = firestore.ListDocumentsResponse.pb()
CreateDocumentRequest: Any = firestore.CreateDocumentRequest.pb()
UpdateDocumentRequest: Any = firestore.UpdateDocumentRequest.pb()
DeleteDocumentRequest: Any = firestore.DeleteDocumentRequest.pb()
BatchGetDocumentsRequest: Any = firestore.BatchGetDocumentsRequest.pb()
BatchGetDocumentsResponse: Any = firestore.BatchGetDocumentsResponse.pb()
BeginTransactionRequest: Any = firestore.BeginTransactionRequest.pb()
BeginTransactionResponse: Any = firestore.BeginTransactionResponse.pb()
CommitRequest: Any = firestore.CommitRequest.pb()
CommitResponse: Any = firestore.CommitResponse.pb()
RollbackRequest: Any = firestore.RollbackRequest.pb()
RunQueryRequest: Any = firestore.RunQueryRequest.pb()
RunQueryResponse: Any = firestore.RunQueryResponse.pb()
RunAggregationQueryRequest: Any = firestore.RunAggregationQueryRequest.pb()
RunAggregationQueryResponse: Any = firestore.RunAggregationQueryResponse.pb()
ListenRequest: Any = firestore.ListenRequest.pb()
ListenResponse: Any = firestore.ListenResponse.pb()
TargetChange: Any = firestore.TargetChange.pb()
ListCollectionIdsRequest: Any = firestore.ListCollectionIdsRequest.pb()
ListCollectionIdsResponse: Any = firestore.ListCollectionIdsResponse.pb()
BatchWriteRequest: Any = firestore.BatchWriteRequest.pb()
BatchWriteResponse: Any = firestore.BatchWriteResponse.pb()
Write: Any = write.Write.pb()


def timestamp(time_us: int) -> Timestamp:
    """A protobuf timestamp of microseconds since the epoch."""
    return Timestamp(seconds=time_us // 1_000_000, nanos=time_us % 1_000_000 * 1000)


def microseconds(stamp: Message) -> int:
    """Microseconds since the epoch; what is finer is dropped, as Firestore does."""
    return int(stamp.seconds) * 1_000_000 + int(stamp.nanos) // 1000
