"""What a person sees of the stack: its start while it lasts, and then how to use it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from infra.local.stack import Stack, Tell

LABELS = {
    "serve": "gateway and functions",
    "emulators": "Cloud Run, Cloud Tasks and sandboxes",
    "storage": "Cloud Storage",
    "firestore": "Firestore (Google's emulator)",
}


@contextmanager
def starting(console: Console) -> Iterator[Tell]:
    """A line for each process with a spinner until it is ready; without a terminal, a line when it is."""
    began = time.monotonic()
    columns = (SpinnerColumn(finished_text="[green]✓"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks = {}

        def tell(name: str, ready: bool) -> None:
            label = LABELS.get(name, name)
            if not ready:
                tasks[name] = bars.add_task(label, total=1)
                return
            bars.update(tasks[name], completed=1)
            if not console.is_terminal:
                console.print(f"ready after {time.monotonic() - began:.1f} s: {label}", highlight=False)

        yield tell


def welcome(console: Console, stack: Stack) -> None:
    """How to use a stack that is up."""
    url = stack.base_url.replace("127.0.0.1", "localhost")
    session = '{"template": "python", "namespace": "my-project", "user": "developer"}'
    facts = stack.sandbox
    isolation = facts.get("isolation", str(stack.settings.sandbox))
    egress = f", network by {facts['egress']}" if facts.get("egress", "none") != "none" else ""
    if facts.get("egress") == "none":
        egress = ", [yellow]no network[/] (install slirp4netns or pasta for one)"
    lines = {
        "API": f"[bold]{url}[/]",
        "key": f"[bold]{escape(stack.api_key)}[/]",
        "sessions": f"{isolation}{egress}",
        "Firestore": "Google's emulator" if stack.official_firestore else "embedded",
        "addresses": escape(str(stack.settings.env_file)),
        "logs": escape(str(stack.settings.logs)),
    }
    console.print(f"[green]✓[/] OnMemOS is up after {stack.ready_s:.1f} s\n", highlight=False)
    for name, text in lines.items():
        console.print(f"  {name:10} {text}", highlight=False, soft_wrap=True)
    # Plain print: a line to paste must not be wrapped or coloured.
    console.print("\nPaste this to create a session:\n", highlight=False)
    console.out(
        f"  curl -X POST {url}/v1/sessions -H 'X-API-Key: {stack.api_key}' "
        f"-H 'Content-Type: application/json' -d '{session}'",
        highlight=False,
    )
    console.print("\nOr run a command in one, from here in another terminal:\n", highlight=False)
    console.out("  .venv/bin/onmemos run python -- python --version", highlight=False)
    console.print("\nCtrl-C ends it; sessions are kept for the next time.", highlight=False)
