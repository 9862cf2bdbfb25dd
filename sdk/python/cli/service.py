"""What a deployment is and offers: `onmemos health`, `templates`, `plan` and `connect`."""

from typing import Any

import click

from .creation import creation
from .grammar import Command, examples
from .invocation import Invocation, json_option, pass_invocation
from .names import session_argument
from .output import pairs, since


@click.command(cls=Command)
@json_option
@pass_invocation
def health(invocation: Invocation) -> None:
    """Ask whether the service is up."""
    answer = invocation.client.health()
    facts = {"status": answer["status"], "url": invocation.deployment.url, "version": answer.get("version")}
    invocation.output.facts(answer, facts)


@click.command(cls=Command)
@json_option
@pass_invocation
def templates(invocation: Invocation) -> None:
    """List what sessions can be made from."""
    columns = {
        "NAME": lambda template: template["name"],
        "AVAILABLE": lambda template: template["available"],
        "CPU": lambda template: template["resources"].get("cpu"),
        "MEMORY": lambda template: template["resources"].get("memory"),
        "IMAGE": lambda template: template["image"],
        "DESCRIPTION": lambda template: template["reason"] or template["description"],
    }
    invocation.output.table(invocation.client.list_templates()["templates"], columns)


@click.command(
    cls=Command, epilog=examples("onmemos plan python --ssh", "onmemos plan --expected-duration 3h --cpu 2 --json")
)
@creation(template_required=False)
@json_option
@pass_invocation
def plan(invocation: Invocation, *, spec: dict[str, Any]) -> None:
    """Show what a session would run on, how soon and for how much.

    Nothing is made. Without TEMPLATE: python.
    """
    answer = invocation.client.plan_session(spec)
    facts = {
        "provider": answer["provider"],
        "because": "; ".join(answer["reasons"]),
        "runs after": f"about {answer['expected_start_seconds']:g} s",
        "costs": f"about {answer['cost_per_hour_usd']:.3f} USD an hour (prices of {answer['prices_of']})",
        "note": "; ".join(answer["notes"]),
    }
    invocation.output.facts(answer, facts)


@click.command(cls=Command, epilog=examples("onmemos connect ws-demo-me-1756062811 --json | jq -r .ticket"))
@session_argument
@json_option
@pass_invocation
def connect(invocation: Invocation, *, session_id: str) -> None:
    """Show how to reach a session directly, with a ticket.

    The ticket opens the session to whoever has it until it expires: in a header as often as wanted, in a URL once.
    """
    answer = invocation.client.connect_session(session_id)
    ssh = answer["ssh"]
    facts = {
        "url": answer["url"],
        "websocket": answer["websocket"],
        "ticket": answer["ticket"],
        "expires": f"{answer['expires_at']} ({since(answer['expires_at'])})",
        "ssh": pairs(ssh) if isinstance(ssh, dict) else ssh,
    }
    invocation.output.facts(answer, facts)
