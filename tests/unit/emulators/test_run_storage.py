"""What the Cloud Run emulator keeps on disk: rows with their owners, and files of before there were so many kinds."""

import datetime
import sqlite3
from pathlib import Path

from google.cloud.run_v2 import types

from infra.emulators.run.storage import Row, Storage

PARENT = "projects/onmemos-local/locations/us-central1"
NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
LATER = NOW + datetime.timedelta(seconds=1)


async def names(storage: Storage, kind: str) -> list[str]:
    return [row.message.name.rsplit("/", 1)[-1] for row in await storage.load(kind)]


async def test_what_a_resource_owns_goes_with_it(tmp_path: Path) -> None:
    job, execution = f"{PARENT}/jobs/one", f"{PARENT}/jobs/one/executions/one-a"
    async with Storage(tmp_path / "run.sqlite") as storage:
        await storage.save(
            Row(types.Job(name=job, create_time=NOW)),
            Row(types.Execution(name=execution, create_time=NOW)),
            Row(types.Task(name=f"{execution}/tasks/one-a-task0", create_time=NOW)),
        )
        await storage.save(Row(types.Instance(name=f"{PARENT}/instances/ws", create_time=NOW), "ws"))
    async with Storage(tmp_path / "run.sqlite") as storage:
        assert await names(storage, "tasks") == ["one-a-task0"]
        await storage.delete(job)
        await storage.delete(job)
        assert [await names(storage, kind) for kind in ("jobs", "executions", "tasks")] == [[], [], []]
        assert [row.container for row in await storage.load("instances")] == ["ws"]


async def test_a_file_with_services_only_is_taken_over(tmp_path: Path) -> None:
    service = types.Service(name=f"{PARENT}/services/ws", create_time=NOW)
    revisions = [
        types.Revision(name=f"{service.name}/revisions/ws-1", create_time=LATER),
        types.Revision(name=f"{service.name}/revisions/ws-0", create_time=NOW),
    ]
    with sqlite3.connect(tmp_path / "run.sqlite") as former:
        former.executescript(
            "CREATE TABLE services (name TEXT PRIMARY KEY, container TEXT NOT NULL UNIQUE, service BLOB NOT NULL)"
            " WITHOUT ROWID; CREATE TABLE revisions (name TEXT PRIMARY KEY, service TEXT NOT NULL REFERENCES services"
            " (name) ON DELETE CASCADE, revision BLOB NOT NULL) WITHOUT ROWID;"
        )
        former.execute("INSERT INTO services VALUES (?, ?, ?)", (service.name, "c", types.Service.serialize(service)))
        for revision in revisions:
            row = (revision.name, service.name, types.Revision.serialize(revision))
            former.execute("INSERT INTO revisions VALUES (?, ?, ?)", row)
    former.close()
    for _ in range(2):
        async with Storage(tmp_path / "run.sqlite") as storage:
            assert [(row.message, row.container) for row in await storage.load("services")] == [(service, "c")]
            assert await names(storage, "revisions") == ["ws-0", "ws-1"]
