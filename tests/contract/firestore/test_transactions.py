"""Transactions: nothing is lost, what fails leaves nothing, and contention ends."""

import asyncio
from collections.abc import Callable

import pytest
from google.api_core import exceptions
from google.cloud import firestore

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def begin(client: firestore.AsyncClient, *, read_only: bool = False) -> bytes:
    options: dict[str, dict[str, str]] = {"read_only": {}} if read_only else {"read_write": {}}
    begun = await client._firestore_api.begin_transaction(
        request={"database": client._database_string, "options": options}
    )
    token: bytes = begun.transaction
    return token


async def read(client: firestore.AsyncClient, path: str, transaction: bytes) -> int:
    name = f"{client._database_string}/documents/{path}"
    document = await client._firestore_api.get_document(request={"name": name, "transaction": transaction})
    value: int = document.fields["n"].integer_value
    return value


async def commit(client: firestore.AsyncClient, path: str, n: int, transaction: bytes) -> None:
    name = f"{client._database_string}/documents/{path}"
    write = {"update": {"name": name, "fields": {"n": {"integer_value": n}}}}
    await client._firestore_api.commit(
        request={"database": client._database_string, "writes": [write], "transaction": transaction}
    )


async def rollback(client: firestore.AsyncClient, transaction: bytes) -> None:
    await client._firestore_api.rollback(request={"database": client._database_string, "transaction": transaction})


async def test_a_transaction_reads_then_writes(client: firestore.AsyncClient) -> None:
    document = client.document("c/a")
    await document.set({"n": 1})

    @firestore.async_transactional
    async def double(transaction: firestore.AsyncTransaction) -> int:
        snapshot = await document.get(transaction=transaction)
        found = [s.id async for s in await transaction.get(client.collection("c").order_by("n"))]
        assert found == ["a"]
        transaction.update(document, {"n": snapshot.get("n") * 2})
        transaction.create(client.document("c/b"), {"n": 0})
        return int(snapshot.get("n"))

    assert await double(client.transaction()) == 1
    assert (await document.get()).get("n") == 2
    assert (await client.document("c/b").get()).exists


async def test_an_exception_inside_writes_nothing(client: firestore.AsyncClient) -> None:
    document = client.document("c/a")

    @firestore.async_transactional
    async def fail(transaction: firestore.AsyncTransaction) -> None:
        await document.get(transaction=transaction)
        transaction.set(document, {"n": 1})
        raise LookupError("no")

    with pytest.raises(LookupError):
        await fail(client.transaction())
    assert not (await document.get()).exists


async def test_a_failed_precondition_writes_nothing_and_closes_it(client: firestore.AsyncClient) -> None:
    await client.document("c/a").set({"n": 1})
    token = await begin(client)
    name = f"{client._database_string}/documents/c/a"
    refused = {"update": {"name": name}, "current_document": {"exists": False}}
    with pytest.raises(exceptions.AlreadyExists):
        await client._firestore_api.commit(
            request={"database": client._database_string, "writes": [refused], "transaction": token}
        )
    with pytest.raises(exceptions.InvalidArgument):
        await commit(client, "c/a", 2, token)
    await rollback(client, token)
    assert (await client.document("c/a").get()).get("n") == 1


async def test_an_ended_transaction_is_refused(client: firestore.AsyncClient) -> None:
    await client.document("c/a").set({"n": 1})
    token = await begin(client)
    await rollback(client, token)
    await rollback(client, token)
    for use in (read(client, "c/a", token), commit(client, "c/a", 2, token)):
        with pytest.raises(exceptions.InvalidArgument):
            await use
    for nonsense in (read(client, "c/a", b"zzz"), commit(client, "c/a", 2, b"zzz"), rollback(client, b"zzz")):
        with pytest.raises(exceptions.InvalidArgument):
            await nonsense


async def test_two_that_read_the_same_do_not_both_write_it(client: firestore.AsyncClient) -> None:
    await client.document("c/a").set({"n": 0})
    tokens = [await begin(client), await begin(client)]
    seen = [await read(client, "c/a", token) for token in tokens]
    ends = [commit(client, "c/a", n + 1, token) for n, token in zip(seen, tokens, strict=True)]
    outcomes = await asyncio.gather(*ends, return_exceptions=True)
    committed = [outcome for outcome in outcomes if outcome is None]
    assert all(outcome is None or isinstance(outcome, exceptions.Aborted) for outcome in outcomes)
    assert (await client.document("c/a").get()).get("n") == len(committed) <= 1


async def test_a_read_only_transaction_refuses_writes(client: firestore.AsyncClient) -> None:
    await client.document("c/a").set({"n": 1})
    token = await begin(client, read_only=True)
    assert await read(client, "c/a", token) == 1
    with pytest.raises(exceptions.InvalidArgument):
        await commit(client, "c/a", 2, token)


async def test_a_read_only_transaction_sees_one_moment(client: firestore.AsyncClient) -> None:
    for name in "ab":
        await client.document(f"c/{name}").set({"n": 1})
    transaction = client.transaction(read_only=True)
    await transaction._begin()
    assert (await client.document("c/a").get(transaction=transaction)).get("n") == 1
    write = asyncio.ensure_future(client.document("c/b").set({"n": 2}))
    await client.document("c/other").get()
    query = client.collection("c").where(filter=firestore.FieldFilter("n", "==", 1))
    assert [s.id async for s in query.stream(transaction=transaction)] == ["a", "b"]
    await transaction._rollback()
    await write


@pytest.mark.parametrize("address", ["embedded"], indirect=True)
async def test_transactions_on_one_document_all_end_well(
    another_client: Callable[[], firestore.AsyncClient],
) -> None:
    clients = [another_client() for _ in range(6)]
    await clients[0].document("c/a").set({"n": 0})

    async def add(client: firestore.AsyncClient) -> None:
        document = client.document("c/a")

        @firestore.async_transactional
        async def one(transaction: firestore.AsyncTransaction) -> None:
            snapshot = await document.get(transaction=transaction)
            transaction.update(document, {"n": snapshot.get("n") + 1})

        for _ in range(10):
            await one(client.transaction())

    await asyncio.wait_for(asyncio.gather(*map(add, clients)), 30)
    assert (await clients[0].document("c/a").get()).get("n") == 60


@pytest.mark.parametrize("address", ["embedded"], indirect=True)
async def test_transactions_that_claim_by_query_never_claim_twice(
    another_client: Callable[[], firestore.AsyncClient],
) -> None:
    clients = [another_client() for _ in range(4)]
    for index in range(20):
        await clients[0].document(f"jobs/{index}").set({"owner": ""})
    claimed: list[str] = []

    async def work(client: firestore.AsyncClient) -> None:
        free = client.collection("jobs").where(filter=firestore.FieldFilter("owner", "==", "")).limit(3)

        @firestore.async_transactional
        async def claim(transaction: firestore.AsyncTransaction) -> str | None:
            async for snapshot in free.stream(transaction=transaction):
                transaction.update(snapshot.reference, {"owner": "me"})
                return str(snapshot.id)
            return None

        while job := await claim(client.transaction()):
            claimed.append(job)

    await asyncio.wait_for(asyncio.gather(*map(work, clients)), 30)
    assert sorted(claimed) == sorted(str(index) for index in range(20))


@pytest.mark.parametrize("address", ["embedded"], indirect=True)
async def test_compare_and_set_by_many_loses_nothing(another_client: Callable[[], firestore.AsyncClient]) -> None:
    clients = [another_client() for _ in range(6)]
    await clients[0].document("c/a").set({"by": []})

    async def append(number: int, client: firestore.AsyncClient) -> None:
        document = client.document("c/a")
        for turn in range(8):
            while True:
                seen = await document.get()
                option = client.write_option(last_update_time=seen.update_time)
                try:
                    await document.update({"by": [*seen.get("by"), f"{number}.{turn}"]}, option=option)
                    break
                except exceptions.FailedPrecondition:
                    continue

    await asyncio.wait_for(asyncio.gather(*(append(*pair) for pair in enumerate(clients))), 30)
    found = (await clients[0].document("c/a").get()).get("by")
    assert sorted(found) == sorted(f"{number}.{turn}" for number in range(6) for turn in range(8))
