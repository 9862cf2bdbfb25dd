"""`onmemos keys`: API keys, for whoever holds one with the admin scope."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from .grammar import Group, examples
from .invocation import Invocation, json_option, pass_invocation
from .output import note, since
from .values import Duration, Id, Moment

SCOPES = ("sessions", "admin")


@click.group(cls=Group, short_help="Make, list and revoke API keys.")
def keys() -> None:
    """API keys: make, list and revoke them. Needs a key with the admin scope."""


@keys.command(
    epilog=examples(
        "onmemos keys create ci --namespace builds --expires-in 30d",
        "KEY=$(onmemos keys create ops --scope admin --scope sessions)",
    )
)
@click.argument("name")
@click.option("--scope", type=click.Choice(SCOPES), multiple=True, help="What it may do. [sessions]")
@click.option("--namespace", multiple=True, metavar="NAME", help="Where it may do it. [everywhere]")
@click.option("--expires-in", type=Duration("d"), metavar="TIME", help="How long it is good: 30d, 12h. [for ever]")
@click.option("--expires-at", type=Moment(), metavar="WHEN", help="Until when: 2027-01-31, or 2027-01-31T18:00:00Z.")
@click.option("--tenant", metavar="NAME", help="Whose it is. [yours]")
@json_option
@pass_invocation
def create(
    invocation: Invocation,
    *,
    name: str,
    scope: tuple[str, ...],
    namespace: tuple[str, ...],
    expires_in: float | None,
    expires_at: datetime | None,
    tenant: str | None,
) -> None:
    """Make a key and print its secret, this once."""
    if expires_in is not None and expires_at is not None:
        raise click.UsageError("--expires-in and --expires-at say the same; wanted one of them")
    if expires_in is not None:
        expires_at = _from_now(expires_in)
    key = invocation.client.create_key(
        name, scopes=scope or None, namespaces=namespace or None, expires_at=expires_at, tenant=tenant
    )
    invocation.output.words(key, key["key"])
    until = f"until {key['expires_at']}" if key["expires_at"] else "for ever"
    note(f"{key['id']}: {key['name']}, {', '.join(key['scopes'])}, {until}. The secret is not shown again.")


@keys.command(epilog=examples("onmemos keys ls"))
@json_option
@pass_invocation
def ls(invocation: Invocation) -> None:
    """List the keys, revoked ones too."""
    columns = {
        "ID": lambda key: key["id"],
        "NAME": lambda key: key["name"],
        "STATE": _state,
        "SCOPES": lambda key: key["scopes"],
        "NAMESPACES": lambda key: key["namespaces"] or "all",
        "AGE": lambda key: since(key["created_at"]),
        "EXPIRES": lambda key: since(key["expires_at"]),
    }
    invocation.output.table(invocation.client.list_keys()["keys"], columns)


@keys.command(epilog=examples("onmemos keys revoke key-1f6c"))
@click.argument("key_id", metavar="ID", type=Id())
@json_option
@pass_invocation
def revoke(invocation: Invocation, *, key_id: str) -> None:
    """End a key: from now on it opens nothing."""
    invocation.output.words(invocation.client.revoke_key(key_id), key_id)


def _state(key: Any) -> str:
    if key["revoked_at"]:
        return "revoked"
    return "expired" if key["expires_at"] and not since(key["expires_at"]).startswith("in ") else "active"


def _from_now(seconds: float) -> datetime:
    try:
        return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
    except OverflowError as exc:
        raise click.UsageError("--expires-in: that is after the year 9999") from exc
