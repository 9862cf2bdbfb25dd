"""What the clients accept, and what they leave to whom."""

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest

import sdk.python
from sdk.python.client import AsyncOnMemOSClient, OnMemOSClient
from sdk.python.errors import ConnectTimeout, InvalidResponse, Timeout, TransportError


def answering(seen: list[httpx.Request]) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"status": "ok"})

    return httpx.MockTransport(answer)


def failing(error: httpx.TransportError | httpx.DecodingError) -> OnMemOSClient:
    def fail(request: httpx.Request) -> httpx.Response:
        error.request = request
        raise error

    return OnMemOSClient("http://h", retries=0, http_client=httpx.Client(transport=httpx.MockTransport(fail)))


@pytest.mark.parametrize("base_url", ["http://h:1/prefix", "http://h:1/prefix/"])
def test_the_base_url_may_have_a_path(base_url: str) -> None:
    seen: list[httpx.Request] = []
    OnMemOSClient(base_url, http_client=httpx.Client(transport=answering(seen))).health()
    assert str(seen[0].url) == "http://h:1/prefix/health"


@pytest.mark.parametrize("base_url", ["", "localhost:8080", "ftp://h", "http://", "http://h/?a=1", "http://h#f"])
def test_a_base_url_that_is_none_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError, match=r"base_url: got .* wanted a URL such as http://localhost:8080"):
        OnMemOSClient(base_url)


def test_a_password_in_the_base_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="base_url") as caught:
        OnMemOSClient("http://me:hunter2@h")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["secret\n", " secret", "sécret", "sec\x00ret"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        OnMemOSClient("http://h", key)
    assert "ret" not in str(caught.value).replace("header", "")


@pytest.mark.parametrize(("argument", "variable", "sent"), [("a", "b", "a"), (None, "b", "b"), (None, "", None)])
def test_the_key_comes_from_the_argument_or_the_environment(
    argument: str | None, variable: str, sent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONMEMOS_API_KEY", variable)
    seen: list[httpx.Request] = []
    OnMemOSClient("http://h", argument, http_client=httpx.Client(transport=answering(seen))).health()
    assert seen[0].headers.get("X-API-Key") == sent


def test_a_client_shows_no_key() -> None:
    client = OnMemOSClient("http://h", "hunter2")
    assert "hunter2" not in repr(client) + repr(client._link)


def test_an_http_client_that_was_brought_along_stays_open() -> None:
    with httpx.Client(transport=answering([])) as mine:
        with OnMemOSClient("http://h", http_client=mine) as client:
            client.health()
        client.close()
        assert not mine.is_closed


async def test_an_async_http_client_that_was_brought_along_stays_open() -> None:
    async with httpx.AsyncClient(transport=answering([])) as mine:
        async with AsyncOnMemOSClient("http://h", http_client=mine) as client:
            await client.health()
        await client.close()
        assert not mine.is_closed


def test_the_credentials_of_an_http_client_that_was_brought_along_are_the_services_and_not_an_agents() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.path.endswith("/connect"):
            way = {"url": "http://agent", "websocket": None, "ticket": "t", "expires_at": "2999-01-01T00:00:00Z"}
            return httpx.Response(200, json=way)
        return httpx.Response(200, json={"returncode": 0})

    mine = httpx.Client(transport=httpx.MockTransport(answer), auth=("me", "secret"))
    OnMemOSClient("http://h", "key", http_client=mine).execute_session("s", "date")
    assert [request.headers["Authorization"][:7] for request in seen] == ["Basic b", "Bearer "]


def test_closing_twice_is_not_an_error() -> None:
    client = OnMemOSClient("http://h")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.health()


async def test_cancelling_a_call_ends_it_without_another_try() -> None:
    sent = asyncio.Event()
    tries = 0

    async def never(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        sent.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with httpx.AsyncClient(transport=httpx.MockTransport(never)) as mine:
        call = asyncio.create_task(AsyncOnMemOSClient("http://h", http_client=mine).health())
        await asyncio.wait_for(sent.wait(), 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert tries == 1


@pytest.mark.parametrize(
    ("foreign", "ours", "may_have_executed"),
    [
        (httpx.ConnectTimeout(""), ConnectTimeout, False),
        (httpx.PoolTimeout(""), ConnectTimeout, False),
        (httpx.ProxyError("407"), TransportError, False),
        (httpx.WriteTimeout(""), Timeout, True),
        (httpx.ReadTimeout(""), Timeout, True),
        (httpx.WriteError(""), TransportError, True),
        (httpx.DecodingError(""), InvalidResponse, True),
        (httpx.LocalProtocolError("odd"), TransportError, True),
    ],
    ids=repr,
)
def test_no_error_of_httpx_comes_out(
    foreign: httpx.TransportError | httpx.DecodingError, ours: type[TransportError], may_have_executed: bool
) -> None:
    with pytest.raises(ours) as caught:
        failing(foreign).health()
    assert caught.value.may_have_executed is may_have_executed
    assert caught.value.__cause__ is foreign


@pytest.fixture
def installed() -> Iterator[ModuleType]:
    """The package under the name that it has when it is installed."""
    root = Path(sdk.python.__file__)
    spec = importlib.util.spec_from_file_location("onmemos", root, submodule_search_locations=[str(root.parent)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["onmemos"] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "onmemos"]:
            del sys.modules[name]


def test_the_package_works_under_its_installed_name(installed: ModuleType) -> None:
    assert installed.OnMemOSClient.__module__ == "onmemos.client"
    assert installed.OnMemOSClient.health.__doc__ == OnMemOSClient.health.__doc__
    assert sorted(installed.__all__) == sorted(sdk.python.__all__)
    assert all(hasattr(installed, name) for name in installed.__all__)


def test_importing_the_package_does_not_import_what_only_shells_need() -> None:
    code = "import sys, sdk.python; sys.exit(any(name.split('.')[0] == 'websockets' for name in sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(sdk.python.__file__).parents[2])
