"""Listen: a stream of targets, each kept up to date with what is committed.

A target starts with ADD, its documents, CURRENT and a global snapshot (NO_CHANGE without targets); each commit that
matters to a target brings the changes and another snapshot. A resumed target is RESET and sent whole.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from google.api_core import exceptions

from . import names
from . import query as queries
from .engine import Engine
from .history import Commit
from .messages import ListenResponse, Message, TargetChange, timestamp
from .names import Name
from .query import Query
from .writes import Change


@dataclass(slots=True)
class _Target:
    """What one target id listens to, and which documents its client has, by name and update time."""

    id: int
    documents: dict[str, Name]
    query: Query | None
    known: dict[str, bytes] = field(default_factory=dict)

    def concerns(self, change: Change) -> bool:
        if self.query is None:
            return str(change.name) in self.documents
        return self.query.in_scope(change.name)


async def listen(engine: Engine, requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
    """Serve one stream until the client ends it. Raises InvalidArgument for what no target can answer for."""
    stream = _Stream(engine)
    with engine.history.subscribe() as commits:
        incoming = asyncio.ensure_future(anext(requests, None))
        committed = asyncio.ensure_future(commits.get())
        try:
            while True:
                await asyncio.wait((incoming, committed), return_when=asyncio.FIRST_COMPLETED)
                if committed.done():
                    batch = [committed.result()]
                    while not commits.empty():
                        batch.append(commits.get_nowait())
                    committed = asyncio.ensure_future(commits.get())
                    for response in stream.advance(batch):
                        yield response
                if incoming.done():
                    request = incoming.result()
                    if request is None:
                        return
                    incoming = asyncio.ensure_future(anext(requests, None))
                    for response in stream.take(request):
                        yield response
        finally:
            incoming.cancel()
            committed.cancel()
            await asyncio.gather(incoming, committed, return_exceptions=True)


class _Stream:
    """The targets of one client. Each method answers what to send, computed in one step."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._database = ""
        self._targets: dict[int, _Target] = {}

    def take(self, request: Message) -> list[Message]:
        self._database = self._database or names.database(request.database)
        match request.WhichOneof("target_change"):
            case "add_target":
                return self._add(request.add_target)
            case "remove_target":
                self._targets.pop(request.remove_target, None)
                return [_target_change(TargetChange.REMOVE, [request.remove_target])]
        raise exceptions.InvalidArgument("A listen request adds or removes a target.")

    def advance(self, commits: Iterable[Commit]) -> list[Message]:
        changes: dict[Name, Change] = {}
        time_us = 0
        for commit in commits:
            time_us = commit.time_us
            for change in commit.changes:
                if change.name.database == self._database:
                    changes[change.name] = change
        responses = [
            response
            for target in self._targets.values()
            if (mine := [change for change in changes.values() if target.concerns(change)])
            for response in self._update(target, mine, time_us)
        ]
        return [*responses, _snapshot(time_us)] if responses else []

    def _add(self, added: Message) -> list[Message]:
        target_id = added.target_id or next(i for i in range(1, len(self._targets) + 2) if i not in self._targets)
        if target_id in self._targets:
            raise exceptions.InvalidArgument(f"Target id {target_id} is in use.")
        started = _target_change(TargetChange.ADD, [target_id])
        try:
            target = self._read_target(target_id, added)
            view = self._engine.view()
            initial = self._initial(target, view.read_time_us)
        except exceptions.GoogleAPICallError as exc:
            refused = _target_change(TargetChange.REMOVE, [target_id])
            refused.target_change.cause.code = exc.grpc_status_code.value[0] if exc.grpc_status_code else 2
            refused.target_change.cause.message = exc.message
            return [started, refused]
        responses = [started]
        if added.WhichOneof("resume_type"):
            responses.append(_target_change(TargetChange.RESET, [target_id], view.read_time_us))
        responses += initial
        responses.append(_target_change(TargetChange.CURRENT, [target_id], view.read_time_us))
        responses.append(_snapshot(view.read_time_us))
        if not added.once:
            self._targets[target_id] = target
        return responses

    def _read_target(self, target_id: int, added: Message) -> _Target:
        match added.WhichOneof("target_type"):
            case "documents":
                listed = [names.document(name) for name in added.documents.documents]
                return _Target(target_id, {str(name): name for name in listed}, None)
            case "query" if added.query.HasField("structured_query"):
                return _Target(target_id, {}, queries.read(added.query.parent, added.query.structured_query))
        raise exceptions.InvalidArgument("A target is a list of documents or a structured query.")

    def _initial(self, target: _Target, time_us: int) -> list[Message]:
        if target.query is not None:
            return self._diff(target, {}, time_us)
        view = self._engine.view()
        return [_document(target, name, view.get(found), time_us) for name, found in target.documents.items()]

    def _update(self, target: _Target, changes: list[Change], time_us: int) -> list[Message]:
        if target.query is None:
            return [_document(target, str(change.name), change.after, time_us) for change in changes]
        latest = {str(change.name): change for change in changes}
        if target.query.limit is not None or target.query.offset:
            return self._diff(target, latest, time_us)  # one document's change can move others in or out
        responses = []
        for name, change in latest.items():
            if change.after is not None and target.query.matches(change.after):
                responses.append(_document(target, name, change.after, time_us))
            elif name in target.known:
                responses.append(_gone(target, name, time_us, deleted=change.after is None))
        return responses

    def _diff(self, target: _Target, latest: dict[str, Change], time_us: int) -> list[Message]:
        """Run the query, and say what its client does not know yet."""
        if target.query is None:
            return []
        found = {document.name: document for document in self._engine.view().run(target.query)}
        responses = [
            _gone(target, name, time_us, deleted=name in latest and latest[name].after is None)
            for name in list(target.known)
            if name not in found
        ]
        return responses + [
            _document(target, name, document, time_us)
            for name, document in found.items()
            if target.known.get(name) != document.update_time.SerializeToString()
        ]


def _document(target: _Target, name: str, document: Message, time_us: int) -> Message:
    if document is None:
        return _gone(target, name, time_us, deleted=True)
    target.known[name] = document.update_time.SerializeToString()
    selected = document if target.query is None else queries.selected(target.query, document)
    return ListenResponse(document_change={"document": selected, "target_ids": [target.id]})


def _gone(target: _Target, name: str, time_us: int, *, deleted: bool) -> Message:
    target.known.pop(name, None)
    body = {"document": name, "read_time": timestamp(time_us), "removed_target_ids": [target.id]}
    return ListenResponse(document_delete=body) if deleted else ListenResponse(document_remove=body)


def _target_change(kind: int, target_ids: list[int], time_us: int | None = None) -> Message:
    change = TargetChange(target_change_type=kind, target_ids=target_ids)
    if time_us is not None:
        change.read_time.CopyFrom(timestamp(time_us))
        change.resume_token = time_us.to_bytes(8, "big")
    return ListenResponse(target_change=change)


def _snapshot(time_us: int) -> Message:
    """Every target is at this time: what makes a client show its changes."""
    return _target_change(TargetChange.NO_CHANGE, [], time_us)
