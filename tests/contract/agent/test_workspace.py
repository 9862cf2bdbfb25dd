"""GET and PUT /v1/workspace and /v1/adopt: what is refused, what is kept, and what nothing of it touches."""

import asyncio
import io
import os
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.contract.agent.rig import ALONE, SESSION, UNSHARE, Agent, Client, running, ticket, unshares, until

MIB = 1 << 20
ISOLATED = pytest.mark.skipif(not unshares(), reason="needs namespaces")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """Its own for each test: a workspace gets its files once."""
    with running(tmp_path) as agent:
        yield agent


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """One for all that changes nothing of it, as what is refused."""
    with running(tmp_path_factory.mktemp("workspace")) as agent:
        yield agent


def a_tar(**files: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def names(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as members:
        return sorted(members.getnames())


async def put(client: Client, content: bytes, offset: int = 0, *, last: bool = True, to: str = "r") -> httpx.Response:
    query = {"restore": to, "offset": str(offset), "last": str(last).lower()}
    return await client.ask("PUT", "/v1/workspace", params=query, content=content)


async def test_parts_go_on_where_the_last_one_ended(client: Client, agent: Agent) -> None:
    tar = a_tar(file=b"x" * 5000)
    assert (await put(client, tar[:100], last=False)).json() == {"offset": 100, "done": False}
    for wrong in (99, 101):
        refused = await put(client, tar[100:], wrong)
        assert (refused.status_code, refused.json()["code"], refused.json()["offset"]) == (409, "wrong_offset", 100)
    other = await put(client, tar[100:], 100, to="other")
    assert (other.json()["code"], other.json()["offset"]) == ("wrong_offset", 0)
    assert (await put(client, tar[100:], 100)).json() == {"offset": len(tar), "done": True}
    assert (await put(client, b"anything", 7)).json() == {"offset": len(tar), "done": True}
    assert (await put(client, tar, to="other")).json()["code"] == "already_restored"
    assert (agent.folder / "file").read_bytes() == b"x" * 5000


async def test_the_first_part_begins_anew(client: Client, agent: Agent) -> None:
    (agent.folder / "of-the-image").touch()
    await put(client, a_tar(one=b"1" * MIB)[:5000], last=False)
    assert [path.name for path in agent.folder.iterdir()] == ["one"]
    await put(client, a_tar(two=b"2"))
    assert [path.name for path in agent.folder.iterdir()] == ["two"]


async def test_nothing_is_started_between_the_first_and_the_last_part(client: Client, agent: Agent) -> None:
    tar = a_tar(file=b"x")
    await put(client, tar[:512], last=False)
    refused = await client.post(command="ls")
    assert (refused.status_code, refused.json()["code"]) == (503, "restoring")
    async with agent.websocket("/v1/shell") as connection:
        await connection.wait_closed()
        assert connection.close_code == 1013
    await put(client, tar[512:], 512)
    assert (await client.run("ls"))["stdout"] == "file\n"
    assert (await put(client, a_tar(other=b"x"), to="late")).json()["code"] == "already_restored"


async def test_a_workspace_that_was_used_gets_no_files(client: Client, agent: Agent) -> None:
    await client.run("echo mine > mine")
    refused = await put(client, a_tar(other=b"x"))
    assert (refused.status_code, refused.json()["code"]) == (409, "workspace_in_use")
    assert [path.name for path in agent.folder.iterdir()] == ["mine"]


async def test_a_broken_tar_is_a_bad_request_and_the_next_try_begins_anew(client: Client) -> None:
    broken = await put(client, b"no tar" * 1000)
    assert (broken.status_code, broken.json()["code"]) == (400, "bad_archive")
    refused = await put(client, a_tar(), 6000)
    assert (refused.json()["code"], refused.json()["offset"]) == ("wrong_offset", 0)
    assert (await put(client, a_tar(file=b"x"))).json()["done"]


@pytest.mark.parametrize(
    "query",
    [
        {"offset": "0"},
        {"restore": "", "offset": "0"},
        {"restore": "r" * 300, "offset": "0"},
        {"restore": "r"},
        {"restore": "r", "offset": "-1"},
        {"restore": "r", "offset": "x"},
        {"restore": "r", "offset": "0", "last": "yes"},
    ],
)
async def test_a_part_says_what_it_is(unchanged: Agent, query: dict[str, str]) -> None:
    (unchanged.folder / "kept").touch()
    async with unchanged.client() as client:
        answer = await client.ask("PUT", "/v1/workspace", params=query, content=a_tar())
    assert answer.status_code == 400
    assert answer.json()["errors"]
    assert (unchanged.folder / "kept").exists()


async def test_a_part_has_its_limit(client: Client, agent: Agent) -> None:
    content = a_tar(file=bytes(17 * MIB))
    assert (await put(client, content)).status_code == 400

    async def streamed() -> AsyncIterator[bytes]:
        for start in range(0, len(content), MIB):
            yield content[start : start + MIB]

    query = {"restore": "r", "offset": "0", "last": "true"}
    assert (await client.ask("PUT", "/v1/workspace", params=query, content=streamed())).status_code == 400


async def test_files_go_and_come_in_constant_memory(client: Client, agent: Agent) -> None:
    await client.ask("GET", "/v1/workspace")
    before = agent.peak_mb()
    tar = a_tar(**{f"file-{number}": os.urandom(8 * MIB) for number in range(8)})
    for start in range(0, len(tar), 8 * MIB):
        await put(client, tar[start : start + 8 * MIB], start, last=start + 8 * MIB >= len(tar))
    answer = await client.ask("GET", "/v1/workspace")
    assert (answer.headers["Content-Type"], len(names(answer.content))) == ("application/x-tar", 8)
    assert agent.peak_mb() - before < 8


async def test_a_client_that_goes_away_costs_no_descriptor(unchanged: Agent) -> None:
    (unchanged.folder / "file").write_bytes(bytes(8 * MIB))
    async with unchanged.client() as client:
        await client.ask("GET", "/v1/workspace")
        before = len(unchanged.descriptors())
        for _ in range(3):
            async with unchanged.client() as other:
                headers = {"X-OnMemOS-Ticket": ticket()}
                async with other.http.stream("GET", "/v1/workspace", headers=headers) as response:
                    await anext(response.aiter_raw())
        await until(lambda: len(unchanged.descriptors()) <= before)


@ISOLATED
async def test_what_is_mounted_in_the_folder_is_not_its(tmp_path: Path) -> None:
    """Such as the session's bucket: not saved, and not emptied."""
    (tmp_path / "a" / "data").mkdir(parents=True)
    mount = f"mount -t tmpfs none '{tmp_path}/a/data' && echo safe > '{tmp_path}/a/data/file'"
    with running(tmp_path, prefix=(*UNSHARE, "sh", "-c", f"{mount} && exec {sys.executable} -m agent")) as agent:
        async with agent.client() as client:
            tar = (await client.ask("GET", "/v1/workspace")).content
            assert names(tar) == ["a", "a/data"]
            assert (await put(client, tar)).json()["done"]
            assert (await client.run("cat a/data/file"))["stdout"] == "safe\n"


async def test_an_agent_that_awaits_files_starts_nothing_before(tmp_path: Path) -> None:
    with running(tmp_path, {"ONMEMOS_AGENT_AWAITS_FILES_S": "60"}) as agent:
        async with agent.client() as client:
            assert (await client.post(command="touch file")).json()["code"] == "restoring"
            assert (await put(client, a_tar(mine=b"x"))).json()["done"]
            assert (await client.run("ls; echo $ONMEMOS_AGENT_AWAITS_FILES_S"))["stdout"] == "mine\n\n"


async def test_it_does_not_await_them_for_ever(tmp_path: Path) -> None:
    with running(tmp_path, {"ONMEMOS_AGENT_AWAITS_FILES_S": "1"}) as agent:
        async with agent.client() as client:
            for _ in range(1000):
                if (await client.post(command="true")).status_code == 200:
                    return
                await asyncio.sleep(0.01)
    pytest.fail("it awaits them still")


async def test_an_adopted_agent_awaits_files_too(client: Client, agent: Agent) -> None:
    adoption = {"session_id": "ws-new", "env": {"ONMEMOS_AGENT_AWAITS_FILES_S": "60"}}
    assert (await client.ask("POST", "/v1/adopt", json=adoption)).status_code == 200
    new = {"X-OnMemOS-Ticket": ticket(aud="ws-new")}
    assert (await client.http.post("/v1/execute", json={"command": "ls"}, headers=new)).json()["code"] == "restoring"


async def test_an_adoption_changes_whose_tickets_open_and_what_shells_inherit(client: Client, agent: Agent) -> None:
    old, new = {"X-OnMemOS-Ticket": ticket()}, {"X-OnMemOS-Ticket": ticket(aud="ws-new")}
    assert (await client.http.post("/v1/adopt", json={"session_id": "ws-new"}, headers=new)).status_code == 401
    adoption = {"session_id": "ws-new", "env": {"WORKSPACE_ID": "ws-new", "COLOR": "red", "PORT": "1"}}
    assert (await client.http.post("/v1/adopt", json=adoption, headers=old)).json() == {"session_id": "ws-new"}
    assert (await client.http.post("/v1/execute", json={"command": "true"}, headers=old)).status_code == 401
    async with agent.shell(headers=new) as shell:
        assert shell.welcome["session_id"] == "ws-new"
        assert (await shell.run("echo $COLOR $WORKSPACE_ID $PORT $NAMESPACE"))["stdout"] == "red ws-new test\n"
    again = await client.http.post("/v1/adopt", json={"session_id": "ws-new", "env": {"COLOR": "blue"}}, headers=old)
    assert again.status_code == 200
    ran = await client.http.post("/v1/execute", json={"command": "echo $COLOR"}, headers=new)
    assert ran.json()["stdout"] == "red\n"
    other = await client.http.post("/v1/adopt", json={"session_id": "ws-other"}, headers=old)
    assert (other.status_code, other.json()["code"]) == (409, "already_adopted")


async def test_an_adoption_outlives_the_agents_process_where_its_state_does(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    new = {"X-OnMemOS-Ticket": ticket(aud="ws-new")}
    adoption = {"session_id": "ws-new", "env": {"COLOR": "red"}}
    command = {"command": "echo $COLOR"}
    with running(tmp_path, {"ONMEMOS_AGENT_STATE": str(state)}) as agent:
        async with agent.client() as client:
            assert (await client.ask("POST", "/v1/adopt", json=adoption)).status_code == 200
    with running(tmp_path, {"ONMEMOS_AGENT_STATE": str(state)}) as agent:
        async with agent.client() as client:
            assert (await client.post(**command)).status_code == 401
            ran = await client.http.post("/v1/execute", json=command, headers=new)
            assert ran.json()["stdout"] == "red\n"
            assert (await client.ask("POST", "/v1/adopt", json=adoption)).status_code == 200
            other = await client.ask("POST", "/v1/adopt", json={"session_id": "ws-other"})
            assert (other.status_code, other.json()["code"]) == (409, "already_adopted")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"session_id": ""},
        {"session_id": 1},
        {"session_id": "x", "env": []},
        {"session_id": "x", "env": {"A": 1}},
        {"session_id": "x", "env": {"ONMEMOS_AGENT_AWAITS_FILES_S": "soon"}},
    ],
)
async def test_an_adoption_says_for_whom(unchanged: Agent, body: dict[str, object]) -> None:
    async with unchanged.client() as client:
        answer = await client.ask("POST", "/v1/adopt", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
        assert (await client.run("echo $WORKSPACE_ID"))["stdout"] == f"{SESSION}\n"


@ISOLATED
async def test_a_frozen_session_is_saved_as_it_stands(tmp_path: Path) -> None:
    with running(tmp_path, prefix=ALONE) as agent:
        async with agent.client() as client:
            await client.run("(while :; do echo >> log; done) >/dev/null 2>&1 & sleep 0.05")
            await client.ask("POST", "/v1/freeze")
            first, second = [(await client.ask("GET", "/v1/workspace")).content for _ in range(2)]
            assert names(first) == ["log"]
            assert first == second
            await client.ask("POST", "/v1/thaw")
            await client.run("kill -KILL -1; true")
