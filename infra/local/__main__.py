"""The local stack: `python -m infra.local up` until Ctrl-C, `python -m infra.local demo` for a tour."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

from rich.console import Console
from rich.markup import escape

from infra.local.children import ChildFailed
from infra.local.demo import DemoFailed, demo
from infra.local.home import HomeTaken
from infra.local.ports import PortTaken
from infra.local.progress import starting, welcome
from infra.local.settings import PORT_VARIABLES, Ports, Settings, SettingsError
from infra.local.stack import NotReady, Stack
from shared.config import ConfigError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FAILED, MISUSED = 1, 2  # exit codes

SETTINGS = "\n".join(
    [
        "settings, from the environment:",
        *(
            f"  {variable:25} {name}'s port, {getattr(Ports(), name)} if not given; 0: any that is free"
            for name, variable in PORT_VARIABLES.items()
        ),
        "  ONMEMOS_HOME              where the stack keeps its state, .onmemos if not given",
        "  ONMEMOS_API_KEY           the API's first key, your-api-key if not given",
        "  ONMEMOS_SANDBOX           auto, bubblewrap, gvisor or docker",
        "  ONMEMOS_EGRESS            auto, slirp4netns, pasta, proxy or none: how sessions reach the internet",
        "  ONMEMOS_FIRESTORE         auto, official or embedded; auto: official where Google's emulator is found",
        "  CLOUD_RUN_MODE            service or instance: what a session on Cloud Run is",
        "  ONMEMOS_GKE_WARM_POOL     namespace/pool of Agent Sandbox: where python's sessions on GKE come from",
        "  ONMEMOS_TEMPLATES_FILE    a YAML file with templates of your own",
        "  ONMEMOS_ALLOWED_ORIGINS   whose pages may call the API from a browser: * or https://HOST[:PORT],…",
        "  FIRESTORE_EMULATOR_HOST   a Firestore emulator that runs already, unless ONMEMOS_FIRESTORE=embedded",
    ]
)


async def up(console: Console, settings: Settings) -> None:
    """Run the stack until it is interrupted. Raises what entering a Stack raises; ChildFailed later."""
    with starting(console) as tell:
        stack = Stack(settings, tell)
        await stack.__aenter__()
    try:
        welcome(console, stack)
        raise await stack.failure()
    finally:
        await stack.__aexit__()


COMMANDS: dict[str, Callable[[Console, Settings], Awaitable[None]]] = {"up": up, "demo": demo}


async def run(command: str, console: Console) -> int:
    """The exit code. The first signal ends the stack in good order, the second one at once."""
    settings = Settings.from_environment()
    work = asyncio.ensure_future(COMMANDS[command](console, settings))
    signals: list[int] = []

    def interrupt(number: int) -> None:
        signals.append(number)
        if len(signals) == 1:
            console.print("\nStopping …", highlight=False)
        work.cancel()

    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    try:
        await work
    except asyncio.CancelledError:
        console.print("Stopped.", highlight=False)
        return 0 if command == "up" else FAILED
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m infra.local",
        description="The local stack.",
        epilog=SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, summary in {
        "up": "run the stack until Ctrl-C",
        "demo": "start the stack, do real work in a session, show it, stop everything",
    }.items():
        commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=SETTINGS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    options = parser.parse_args()
    console = Console()
    try:
        return asyncio.run(run(options.command, console))
    except (SettingsError, ConfigError) as exc:
        return _complain(str(exc), MISUSED)
    except (HomeTaken, PortTaken, ChildFailed, NotReady, DemoFailed) as exc:
        return _complain(str(exc), FAILED)


def _complain(message: str, code: int) -> int:
    Console(stderr=True).print(f"[red]✗[/] {escape(message)}", highlight=False, soft_wrap=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
