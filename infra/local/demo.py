"""The demo: a session does real work, fails once, keeps a file, and goes; every step is shown with what it took."""

import asyncio
import dataclasses
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from infra.local import pip_settings, ports
from infra.local.ports import PortTaken
from infra.local.progress import starting
from infra.local.settings import PORT_VARIABLES, Settings
from infra.local.stack import Stack
from sdk.python import NotFound, OnMemOSError

if TYPE_CHECKING:
    from sdk.python import AsyncOnMemOSClient

# A real project, pure Python, whose source distribution holds its test suite: thousands of tests in under a second.
PROJECT, VERSION = "idna", "3.11"
SHOWN_LINES = 6
COMMAND_TIMEOUT_S = 180.0

PROGRAM = """
import collections, hashlib, sqlite3, tokenize, pathlib, sys, os
db = sqlite3.connect("standard-library.db")
db.execute("create table word (name text primary key, uses integer)")
words, files = collections.Counter(), list(pathlib.Path(os.__file__).parent.glob("*.py"))
for file in files:
    with tokenize.open(file) as source:
        words.update(token.string for token in tokenize.generate_tokens(source.readline) if token.type == 1)
db.executemany("insert into word values (?, ?)", words.items())
db.commit()
print(f"{len(files)} modules of the standard library, {sum(words.values())} names, {len(words)} different ones")
for name, uses in db.execute("select name, uses from word order by uses desc limit 3"):
    print(f"{uses:8} {name}")
print("sha256", hashlib.sha256(pathlib.Path("standard-library.db").read_bytes()).hexdigest())
"""


class DemoFailed(Exception):
    """A step did not do what it should; the message says which, and what it did."""


async def demo(console: Console, settings: Settings) -> None:
    """Start a stack of its own, show a session's life, end the stack. Raises DemoFailed, and what a Stack raises."""
    began = time.monotonic()
    settings = _beside_others(console, dataclasses.replace(settings, home=settings.home / "demo"))
    with starting(console) as tell:
        stack = Stack(settings, tell)
        await stack.__aenter__()
    try:
        console.print(f"[green]✓[/] the stack is up after {stack.ready_s:.1f} s: {stack.base_url}", highlight=False)
        await _while_it_runs(stack, _tour(console, stack))
    except OnMemOSError as exc:
        raise DemoFailed(f"the API refused a step: {exc}. The stack's logs are in {settings.logs}") from exc
    finally:
        ending = time.monotonic()
        await stack.__aexit__()
    console.print(f"[green]✓[/] everything is stopped, in {time.monotonic() - ending:.1f} s", highlight=False)
    shutil.rmtree(settings.home, ignore_errors=True)
    console.print(f"\nThat was all, in {time.monotonic() - began:.1f} s. Start your own with [bold]make up[/].")


async def _while_it_runs(stack: Stack, work: Any) -> None:
    """Do the work; raise ChildFailed as soon as the stack fails under it."""
    tour, failure = asyncio.ensure_future(work), asyncio.ensure_future(stack.failure())
    try:
        await asyncio.wait({tour, failure}, return_when=asyncio.FIRST_COMPLETED)
        if not tour.done():
            raise failure.result()
        tour.result()
    finally:
        tour.cancel()
        failure.cancel()
        await asyncio.gather(tour, failure, return_exceptions=True)


def _beside_others(console: Console, settings: Settings) -> Settings:
    """Move from the ports that are taken, unless they were asked for. Raises PortTaken: one was."""
    moved = {}
    for name, variable in PORT_VARIABLES.items():
        try:
            ports.free(settings.ports, name)
        except PortTaken as taken:
            if settings.inherited.get(variable):
                raise
            moved[name] = 0
            if name == "gateway":
                console.print(f"[yellow]![/] port {taken.port} is taken: using a free one", highlight=False)
    return dataclasses.replace(settings, ports=dataclasses.replace(settings.ports, **moved))


async def _tour(console: Console, stack: Stack) -> None:
    pip_environment = asyncio.create_task(pip_settings.of_this_machine())
    from sdk.python import AsyncOnMemOSClient  # `up` needs no client

    async with AsyncOnMemOSClient(stack.base_url, stack.api_key) as client:
        began = time.monotonic()
        session = await client.create_session(template="python", namespace="demo", user="you", ttl_minutes=15)
        if session["status"] != "running":
            raise DemoFailed(f"the session is {session['status']}, wanted running: {session.get('error')}")
        tour = Tour(console, client, session)
        tour.show(f"session {session['id']}", time.monotonic() - began)
        egress = session["details"].get("egress", "none")
        console.print(f"  isolation: {session['details'].get('isolation')}, network: {egress}", highlight=False)
        if egress == "none":
            console.print("  [yellow]![/] a session has no network here: a standard-library program instead of PyPI")
            await tour.run_standard_library()
        else:
            await tour.test_a_project(await pip_environment)
        await tour.fail()
        note = await tour.keep_a_file()
        await tour.rest(note)
        await tour.move(note, "gke")
        await tour.delete()


class Tour:
    """The steps of the demo, in one session."""

    def __init__(self, console: Console, client: "AsyncOnMemOSClient", session: Any) -> None:
        self._console = console
        self._client = client
        self._id: str = session["id"]

    async def test_a_project(self, environment: Mapping[str, str]) -> None:
        """A project of PyPI: its source, its installation, its own tests."""
        source = f"{PROJECT}-{VERSION}"
        download = (
            f"pip download --quiet --no-deps --no-binary {PROJECT} {PROJECT}=={VERSION} && tar xzf {source}.tar.gz"
        )
        for content in filter(None, [environment.get(pip_settings.CERTIFICATES)]):
            await self._client.execute_session(self._id, f"cat > {pip_settings.CERTIFICATES_FILE}", stdin=content)
        env = {name: value for name, value in environment.items() if name != pip_settings.CERTIFICATES}
        await self._do(f"download the source of {PROJECT} {VERSION}", f"{download} && ls {source}", env=env)
        await self._do("install it", f"pip install --quiet ./{source} && pip list --local | grep -i {PROJECT}", env=env)
        await self._do("run its own test suite", "python -m unittest 2>&1 | tail -n 3", cwd=source, wanted="OK")

    async def run_standard_library(self) -> None:
        """What can be done with no network at all."""
        await self._do("read the standard library", "python -", stdin=PROGRAM)

    async def fail(self) -> None:
        """A command that fails is a result, not an error."""
        await self._do("a command that fails", "ls /nowhere", returncode=2)

    async def keep_a_file(self) -> str:
        """What one command writes, another reads; what that was."""
        text = f"written at {time.strftime('%H:%M:%S')}"
        await self._do("write a file", "mkdir -p notes && cat > notes/today", stdin=text)
        await self._do("read it back", "cat notes/today", wanted=text)
        return text

    async def rest(self, note: str) -> None:
        """Suspended, nothing of it runs; resumed, it has its files."""
        for what, turn, status in (
            ("suspend the session: its files go to its bucket", self._client.suspend_session, "suspended"),
            ("resume it", self._client.resume_session, "running"),
        ):
            began = time.monotonic()
            async with self._busy(what):
                session = await turn(self._id)
            if session["status"] != status:
                raise DemoFailed(f"{what}: the session is {session['status']}, wanted {status}: {session['details']}")
            self.show(what, time.monotonic() - began)
        await self._do("read the file again", "cat notes/today", wanted=note)

    async def move(self, note: str, provider: str) -> None:
        """To another provider, under the same id and with the same files."""
        what, began = f"move it to {provider}", time.monotonic()
        async with self._busy(what):
            session = await self._client.move_session(self._id, provider)
        if (session["provider"], session["status"]) != (provider, "running"):
            raise DemoFailed(f"{what}: it is {session['status']} on {session['provider']}: {session['details']}")
        self.show(what, time.monotonic() - began)
        await self._do("the same session, the same file", "cat notes/today", wanted=note)

    async def delete(self) -> None:
        """Gone for everybody, at once."""
        began = time.monotonic()
        await self._client.delete_session(self._id)
        try:
            await self._client.get_session(self._id)
        except NotFound as exc:
            self.show("delete the session", time.monotonic() - began)
            self._show_output(str(exc))
        else:
            raise DemoFailed(f"{self._id} was deleted, and is still there")

    def show(self, what: str, took_s: float) -> None:
        """One step that was done."""
        self._console.print(f"[green]✓[/] {escape(what)} [dim]{_duration(took_s)}[/]", highlight=False)

    async def _do(self, what: str, command: str, *, returncode: int = 0, wanted: str = "", **options: Any) -> None:
        async with self._busy(what):
            result = await self._client.execute_session(self._id, command, COMMAND_TIMEOUT_S, **options)
        output = result["stdout"] + result["stderr"]
        if result["returncode"] != returncode or wanted not in output:
            wish = f"returncode {returncode}" + (f" and '{wanted}'" if wanted else "")
            raise DemoFailed(f"{what}: wanted {wish}, got returncode {result['returncode']}:\n{output[-2000:]}")
        self.show(what, result["duration_ms"] / 1000)
        self._console.print(f"  [cyan]$ {escape(command.strip())}[/]", highlight=False, soft_wrap=True)
        self._show_output(output)
        if returncode:
            self._console.print(f"  returncode {result['returncode']}, success {result['success']}", highlight=False)

    @asynccontextmanager
    async def _busy(self, what: str) -> AsyncIterator[None]:
        with self._console.status(escape(what)):
            yield

    def _show_output(self, output: str) -> None:
        for line in output.strip().splitlines()[-SHOWN_LINES:]:
            self._console.print(f"  {escape(line)}", highlight=False, style="dim", soft_wrap=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
