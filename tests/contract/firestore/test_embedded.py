"""What only the embedded emulator promises: it survives a restart, and what it does not speak is UNIMPLEMENTED."""

from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import firestore

from tests.contract.firestore.conftest import OWNER, connect, embedded_server

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_documents_indexes_and_time_survive_a_restart(tmp_path: Path, project: str) -> None:
    path = tmp_path / "state" / "firestore.sqlite"

    def by_n(client: firestore.AsyncClient) -> Any:
        return client.collection("c").where(filter=firestore.FieldFilter("k", "==", 1)).order_by("n")

    async with embedded_server(path) as address:
        client = connect(address, project)
        for name, n in (("a", 2), ("b", 1)):
            written = await client.document(f"c/{name}").set({"n": n, "k": 1})
        assert [s.id async for s in by_n(client).stream()] == ["b", "a"]
    async with embedded_server(path) as address:
        client = connect(address, project)
        again = await client.document("c/c").set({"n": 0, "k": 1})
        assert again.update_time > written.update_time
        assert [s.id async for s in by_n(client).stream()] == ["c", "b", "a"]
        option = client.write_option(last_update_time=written.update_time)
        await client.document("c/b").update({"n": 5}, option=option)


async def test_a_transaction_that_a_restart_cut_off_is_aborted_so_that_it_is_retried(
    tmp_path: Path, project: str
) -> None:
    path = tmp_path / "firestore.sqlite"
    async with embedded_server(path) as address:
        transaction = connect(address, project).transaction()
        await transaction._begin()
    async with embedded_server(path) as address:
        client = connect(address, project)
        request = {"database": client._database_string, "transaction": transaction.id, "writes": []}
        with pytest.raises(exceptions.Aborted):
            await client._firestore_api.commit(request=request)


async def test_the_past_can_be_read(embedded_address: str, project: str) -> None:
    client = connect(embedded_address, project)
    document = client.document("c/a")
    await document.set({"n": 1})
    then = (await document.get()).read_time
    await document.set({"n": 2})
    await client.document("c/b").set({"n": 1})
    assert (await document.get(read_time=then)).get("n") == 1
    found = [(s.id, s.get("n")) async for s in client.collection("c").order_by("n").stream(read_time=then)]
    assert found == [("a", 1)]


async def test_ordered_lists_have_pages(embedded_address: str, project: str) -> None:
    client = connect(embedded_address, project)
    for name, n in (("a", 1), ("b", 3), ("c", 2), ("d", 2)):
        await client.document(f"l/{name}").set({"n": n})
    parent = f"{client._database_string}/documents"
    request = {"parent": parent, "collection_id": "l", "page_size": 1, "order_by": "n desc"}
    pager = await client._firestore_api.list_documents(request=request)
    assert [document.name[-1] async for document in pager] == ["b", "d", "c", "a"]


async def test_what_it_does_not_speak_is_unimplemented(embedded_address: str, project: str) -> None:
    client = connect(embedded_address, project)
    parent = f"{client._database_string}/documents"
    collection: dict[str, Any] = {"from_": [{"collection_id": "c"}]}
    vector = {"map_value": {"fields": {"__type__": {"string_value": "__vector__"}}}}
    near = {"vector_field": {"field_path": "v"}, "query_vector": vector, "limit": 1}
    api = client._firestore_api
    with pytest.raises(exceptions.MethodNotImplemented):
        await api.run_query(request={"parent": parent, "structured_query": {**collection, "find_nearest": near}})
    with pytest.raises(exceptions.MethodNotImplemented):
        await api.run_query(request={"parent": parent, "structured_query": collection, "explain_options": {}})
    with pytest.raises(exceptions.MethodNotImplemented):
        await api.partition_query(
            request={"parent": parent, "structured_query": collection, "partition_count": 2}, metadata=OWNER
        )
    with pytest.raises(exceptions.MethodNotImplemented):
        await api.execute_pipeline(request={"database": client._database_string})
