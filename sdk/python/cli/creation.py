"""The options that say what session is wanted, for every command that makes one or asks what it would be."""

import getpass
import inspect
import os
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from .names import complete_template
from .values import Duration, Pair, minutes

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

PROVIDERS = ("auto", "cloud_run", "gke", "workstations")
DEFAULT_NAMESPACE, DEFAULT_USER = "default", "user"

OPTIONS = (
    click.option("--namespace", metavar="NAME", help="Where it belongs. [ONMEMOS_NAMESPACE, else default]"),
    click.option("--user", metavar="NAME", help="Whose it is. [your login name]"),
    click.option(
        "--provider", type=click.Choice(PROVIDERS), metavar="NAME", help="cloud_run, gke or workstations. [auto]"
    ),
    click.option("--ttl", type=Duration("m"), metavar="TIME", help="How long it lives: 90 (minutes), 12h, 7d. [60]"),
    click.option("--idle-timeout", type=Duration("m"), metavar="TIME", help="End it when nothing happens for so long."),
    click.option("--expected-duration", type=Duration("m"), metavar="TIME", help="How long you think to need it."),
    click.option(
        "--env",
        "-e",
        type=Pair(inherits=True),
        multiple=True,
        metavar="K=V",
        help="A variable; K alone: as it is here.",
    ),
    click.option("--label", "-l", type=Pair(), multiple=True, metavar="K=V", help="A label to find it by."),
    click.option("--cpu", type=float, metavar="N", help="How many vCPUs."),
    click.option("--memory", metavar="SIZE", help="How much memory: 512Mi, 2Gi."),
    click.option("--no-egress", is_flag=True, help="No way out to the internet."),
    click.option("--long-lived", is_flag=True, help="It is to stay for long."),
    click.option("--auto-resume", is_flag=True, help="When it is suspended, a command resumes it."),
    click.option("--ssh", is_flag=True, help="It must be reachable by SSH."),
    click.option("--bucket", metavar="NAME", help="Mount this bucket, rather than one of its own."),
    click.option("--mount-path", metavar="PATH", help="Where the bucket is mounted. [/data]"),
    click.option("--keep-bucket", is_flag=True, help="The bucket outlives the session."),
)


def creation(*, template_required: bool) -> Decorator:
    """TEMPLATE and the options of a creation; the command gets them as `spec`, the body that the API takes."""
    names = tuple(inspect.signature(_spec).parameters)
    argument = click.argument(
        "template",
        required=template_required,
        shell_complete=complete_template,
        metavar="TEMPLATE" if template_required else "[TEMPLATE]",
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_spec(*args: Any, **options: Any) -> Any:
            wanted = {name: options.pop(name) for name in names}
            return command(*args, spec=_spec(**wanted), **options)

        decorated: Callable[..., Any] = with_spec
        for option in (*reversed(OPTIONS), argument):
            decorated = option(decorated)
        return decorated

    return decorate


def login_name() -> str:
    """The login name, in the characters that the API takes for a user; `user` where there is none."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user, and no variable that names one
        name = ""
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", name).lstrip("._@-")[:63] or DEFAULT_USER


def _spec(
    *,
    template: str | None,
    namespace: str | None,
    user: str | None,
    provider: str | None,
    ttl: float | None,
    idle_timeout: float | None,
    expected_duration: float | None,
    env: tuple[tuple[str, str], ...],
    label: tuple[tuple[str, str], ...],
    cpu: float | None,
    memory: str | None,
    no_egress: bool,
    long_lived: bool,
    auto_resume: bool,
    ssh: bool,
    bucket: str | None,
    mount_path: str | None,
    keep_bucket: bool,
) -> dict[str, Any]:
    return _given(
        template=template or "python",
        namespace=namespace or os.environ.get("ONMEMOS_NAMESPACE") or DEFAULT_NAMESPACE,
        user=user or login_name(),
        provider=provider,
        ttl_minutes=_minutes(ttl),
        idle_timeout_minutes=_minutes(idle_timeout),
        expected_duration_minutes=_minutes(expected_duration),
        env=dict(env),
        labels=dict(label),
        resources=_given(cpu=cpu, memory=memory),
        network={"egress": False} if no_egress else None,
        long_lived=long_lived or None,
        auto_resume=auto_resume or None,
        needs_ssh=ssh or None,
        storage=_given(bucket=bucket, mount_path=mount_path, keep=keep_bucket or None),
    )


def _minutes(seconds: float | None) -> int | None:
    return None if seconds is None else minutes(seconds)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None and value != {}}
