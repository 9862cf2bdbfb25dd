"""An SQLite file that is opened, read and written through a thread of its own."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class SqliteThread:
    """What is written is safe from a crash of the process; the last writes may be lost when the machine loses power.

    `schema` is executed at each opening.
    """

    def __init__(self, path: Path, name: str, schema: str) -> None:
        self._path = path
        self._schema = schema
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connection: sqlite3.Connection

    async def __aenter__(self) -> Self:
        await self._in_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._in_thread(lambda: self._connection.close())
        self._thread.shutdown()

    async def read(self, statement: str, *values: object) -> list[Any]:
        """All rows."""
        return await self._in_thread(lambda: self._connection.execute(statement, values).fetchall())

    async def write(self, statement: str, *rows: tuple[object, ...]) -> None:
        """For all rows or for none, also when whoever waits for it is cancelled: others may have seen it by then."""

        def written() -> None:
            with self._connection:
                self._connection.executemany(statement, rows)

        await self._in_thread(written)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self._path)
        self._connection.executescript(
            f"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; {self._schema}"
        )

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, call))
