"""What one call of `onmemos` has at hand: its output, and the client of its deployment."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .deployment import Deployment
from .output import Output

if TYPE_CHECKING:
    from ..client import OnMemOSClient

Connect = Callable[[Deployment], "OnMemOSClient"]


class Invocation:
    """`connect` makes the client when it is first wanted: help and completion never need one."""

    def __init__(self, deployment: Deployment, output: Output, connect: Connect) -> None:
        self.deployment = deployment
        self.output = output
        self._connect = connect
        self._client: OnMemOSClient | None = None

    @property
    def client(self) -> "OnMemOSClient":
        """Raises UsageError: the URL or the key cannot be one."""
        if self._client is None:
            try:
                self._client = self._connect(self.deployment)
            except ValueError as exc:
                raise click.UsageError(str(exc)) from exc
        return self._client

    def close(self) -> None:
        """Idempotent."""
        if self._client is not None:
            self._client.close()
            self._client = None


pass_invocation = click.make_pass_decorator(Invocation)


def connect(deployment: Deployment) -> "OnMemOSClient":
    """The SDK's client. Its import is what takes the most time of all, so it is made late."""
    from ..client import OnMemOSClient

    return OnMemOSClient(deployment.url, deployment.api_key, timeout=deployment.timeout_s)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--json behind the command, where people write it too."""

    def chosen(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            ctx.ensure_object(Invocation).output = Output(as_json=True)

    return click.option("--json", is_flag=True, expose_value=False, callback=chosen, help="Print JSON, for scripts.")(
        command
    )
