"""Which provider serves a session: the caller's, or with `auto` the first of our preference that can."""

from collections.abc import Collection

from shared.errors import InvalidRequest, ProviderNotConfigured
from shared.models import AUTO, ProviderName, SessionSpec

LONG_RUN_MINUTES = 60  # longer work wants a machine of its own
SSH_PROVIDERS = (ProviderName.WORKSTATIONS,)


def choose(spec: SessionSpec, configured: Collection[ProviderName]) -> tuple[ProviderName, str]:
    """The provider and why this one. Raises ProviderNotConfigured, or InvalidRequest: none can do what is asked."""
    if spec.provider != AUTO:
        asked = ProviderName(spec.provider)
        if asked not in configured:
            raise ProviderNotConfigured(
                f"provider: got '{asked}', which this deployment does not offer; wanted {_offer(configured)}",
                {"provider": [f"got '{asked}', wanted {_offer(configured)}"]},
            )
        if spec.needs_ssh and asked not in SSH_PROVIDERS:
            raise InvalidRequest.field("needs_ssh", f"got true, wanted false: {asked} offers no SSH")
        return asked, "asked for"
    for provider, reason in _preferred(spec):
        if provider in configured:
            return provider, reason
    raise ProviderNotConfigured(
        "needs_ssh: got true, but this deployment offers no provider with SSH; wanted false",
        {"needs_ssh": ["got true, wanted false: this deployment offers no provider with SSH"]},
    )


def _preferred(spec: SessionSpec) -> list[tuple[ProviderName, str]]:
    if spec.needs_ssh:
        return [(provider, "the session needs SSH") for provider in SSH_PROVIDERS]
    order: list[tuple[ProviderName, str]] = []
    if (spec.expected_duration_minutes or 0) > LONG_RUN_MINUTES:
        order.append((ProviderName.WORKSTATIONS, f"the work is expected to last more than {LONG_RUN_MINUTES} minutes"))
    if spec.long_lived:
        order.append((ProviderName.GKE, "the session is long-lived"))
    order.append((ProviderName.CLOUD_RUN, "the default: it starts soonest and costs nothing when it is gone"))
    order.append((ProviderName.GKE, "Cloud Run is not configured"))
    order.append((ProviderName.WORKSTATIONS, "neither Cloud Run nor GKE is configured"))
    return order


def _offer(configured: Collection[ProviderName]) -> str:
    return " or ".join(["'auto'", *(f"'{provider}'" for provider in configured)])
