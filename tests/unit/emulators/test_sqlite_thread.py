"""What is on its way to an SQLite file gets there."""

import asyncio
from pathlib import Path

from infra.emulators.sqlite_thread import SqliteThread

SCHEMA = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER)"


async def test_a_write_that_nobody_awaits_any_more_is_written(tmp_path: Path) -> None:
    async with SqliteThread(tmp_path / "file.sqlite", "test", SCHEMA) as file:
        writes = [asyncio.create_task(file.write("INSERT INTO numbers VALUES (?)", (number,))) for number in range(100)]
        await asyncio.sleep(0)
        for write in writes:
            write.cancel()
    async with SqliteThread(tmp_path / "file.sqlite", "test", SCHEMA) as file:
        assert await file.read("SELECT count(*) FROM numbers") == [(100,)]
