"""The line of transactions that lost once: it moves on, whoever dies in it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.firestore_v1 import types

from infra.emulators.firestore import names, transactions
from infra.emulators.firestore.engine import Engine
from infra.emulators.firestore.transactions import Transaction

DATABASE = "projects/p/databases/(default)"
NAME = names.Name(DATABASE, ("c", "a"))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = Engine(tmp_path / "firestore.sqlite")
    yield opened
    opened.close()


def write(n: int) -> Any:
    return types.Write(update=types.Document(name=str(NAME), fields={"n": {"integer_value": n}}))._pb


async def begin(engine: Engine, retry: bytes = b"") -> Transaction:
    options = types.TransactionOptions(read_write={"retry_transaction": retry})
    return await engine.transactions.begin(DATABASE, options._pb)


async def lose(engine: Engine) -> Transaction:
    """A transaction that read, was overtaken, and aborted."""
    transaction = await begin(engine)
    engine.view(transaction=transaction).get(NAME)
    await engine.commit(DATABASE, [write(engine.storage.now())])
    with pytest.raises(exceptions.Aborted):
        await engine.commit(DATABASE, [write(0)], transaction)
    engine.transactions.end(transaction)
    return transaction


async def test_others_wait_for_a_retry_and_the_retry_commits(engine: Engine) -> None:
    lost = await lose(engine)
    retry = await begin(engine, lost.id)
    engine.view(transaction=retry).get(NAME)
    other = asyncio.ensure_future(engine.commit(DATABASE, [write(2)]))
    await asyncio.sleep(0)
    assert not other.done()
    await engine.commit(DATABASE, [write(1)], retry)
    engine.transactions.end(retry, committed=True)
    await asyncio.wait_for(other, 5)
    found = engine.view().get(NAME)
    assert found is not None
    assert found.fields["n"].integer_value == 2


async def test_a_reservation_left_idle_is_void(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "IDLE_S", 0.05)
    retry = await begin(engine, (await lose(engine)).id)
    engine.view(transaction=retry).get(NAME)
    await asyncio.wait_for(engine.commit(DATABASE, [write(2)]), 5)
    with pytest.raises(exceptions.Aborted):
        await engine.commit(DATABASE, [write(3)], retry)


async def test_retries_take_turns_and_one_that_gives_up_in_line_lets_the_next_go_on(engine: Engine) -> None:
    first, second, third = [await lose(engine) for _ in range(3)]
    running = await begin(engine, first.id)
    given_up = asyncio.ensure_future(begin(engine, second.id))
    waiting = asyncio.ensure_future(begin(engine, third.id))
    await asyncio.sleep(0)
    assert not given_up.done()
    given_up.cancel()
    engine.transactions.end(running, committed=True)
    assert (await asyncio.wait_for(waiting, 5)).root == third.id


async def test_writes_elsewhere_do_not_wait(engine: Engine) -> None:
    await begin(engine, (await lose(engine)).id)
    elsewhere = types.Write(update=types.Document(name=f"{DATABASE}/documents/c/b"))._pb
    await asyncio.wait_for(engine.commit(DATABASE, [elsewhere]), 1)
