"""Which provider serves a session: the caller's, or with `auto` the first of our preference that can. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from shared.errors import InvalidRequest, ProviderNotConfigured
from shared.models import AUTO, ProviderName, SessionSpec

LONG_RUN_MINUTES = 60  # longer work wants a machine of its own
SSH_PROVIDERS = (ProviderName.WORKSTATIONS,)
DIRECT_PROVIDERS = (ProviderName.CLOUD_RUN,)  # whose workspaces clients reach by their URL with nothing but a ticket


@dataclass(frozen=True, slots=True)
class Choice:
    """A provider, and why: those that would have been preferred and cannot serve, then what speaks for it."""

    provider: ProviderName
    reasons: tuple[str, ...]


def choose(
    spec: SessionSpec, configured: Collection[ProviderName], unfit: Mapping[ProviderName, InvalidRequest] | None = None
) -> Choice:
    """`unfit`: configured providers that have no workspace such as this one, with what they say about it.

    Raises ProviderNotConfigured, or InvalidRequest: none can do what is asked.
    """
    unfit = unfit or {}
    if spec.provider != AUTO:
        return _asked(spec, ProviderName(spec.provider), configured, unfit)
    passed: list[str] = []
    for provider, wish in _preferred(spec):
        if provider in configured and provider not in unfit:
            return Choice(provider, (*passed, f"{provider}: {wish}"))
        if provider in unfit:
            passed.append(f"{provider}, which cannot serve it ({unfit[provider]})")
        elif wish != LAST_RESORT:
            passed.append(f"{wish}: {provider}, which this deployment does not offer")
    if unfit:
        raise next(iter(unfit.values()))
    if spec.needs_ssh:
        raise ProviderNotConfigured(
            "needs_ssh: got true, but this deployment offers no provider with SSH; wanted false",
            {"needs_ssh": ["got true, wanted false: this deployment offers no provider with SSH"]},
        )
    raise ProviderNotConfigured("provider: this deployment offers none")


LAST_RESORT = "it can do what is asked"


def _asked(
    spec: SessionSpec,
    asked: ProviderName,
    configured: Collection[ProviderName],
    unfit: Mapping[ProviderName, InvalidRequest],
) -> Choice:
    if asked not in configured:
        raise ProviderNotConfigured(
            f"provider: got '{asked}', which this deployment does not offer; wanted {_offer(configured)}",
            {"provider": [f"got '{asked}', wanted {_offer(configured)}"]},
        )
    if spec.needs_ssh and asked not in SSH_PROVIDERS:
        raise InvalidRequest.field("needs_ssh", f"got true, wanted false: {asked} offers no SSH")
    if asked in unfit:
        raise unfit[asked]
    return Choice(asked, (f"{asked}: asked for",))


def _preferred(spec: SessionSpec) -> Iterator[tuple[ProviderName, str]]:
    """Each provider that satisfies the request, once, with what speaks for it."""
    if spec.needs_ssh:
        yield from ((provider, "the session needs SSH") for provider in SSH_PROVIDERS)
        return
    wishes: dict[ProviderName, str] = {}
    minutes = spec.expected_duration_minutes or 0
    if minutes > LONG_RUN_MINUTES:
        wishes[ProviderName.WORKSTATIONS] = (
            f"the work is expected to last {minutes} minutes, more than {LONG_RUN_MINUTES}"
        )
    if spec.long_lived:
        wishes[ProviderName.GKE] = "the session is long-lived"
    wishes[ProviderName.CLOUD_RUN] = "it starts soonest and costs nothing when it is gone"
    for provider in (ProviderName.GKE, ProviderName.WORKSTATIONS):
        wishes.setdefault(provider, LAST_RESORT)
    yield from wishes.items()


def _offer(configured: Collection[ProviderName]) -> str:
    return " or ".join(["'auto'", *(f"'{provider}'" for provider in configured)])
