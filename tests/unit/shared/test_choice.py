"""Which provider serves which request."""

import pytest

from shared.choice import choose
from shared.errors import InvalidRequest
from shared.models import ProviderName, SessionSpec

RUN, GKE, STATIONS = ProviderName.CLOUD_RUN, ProviderName.GKE, ProviderName.WORKSTATIONS
ALL = (RUN, GKE, STATIONS)


def spec(**changes: object) -> SessionSpec:
    return SessionSpec(template="python", namespace="n", user="u", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "configured", "wanted"),
    [
        (spec(), ALL, RUN),
        (spec(long_lived=True), ALL, GKE),
        (spec(long_lived=True), (RUN,), RUN),
        (spec(needs_ssh=True), ALL, STATIONS),
        (spec(needs_ssh=True, long_lived=True), ALL, STATIONS),
        (spec(expected_duration_minutes=61), ALL, STATIONS),
        (spec(expected_duration_minutes=60), ALL, RUN),
        (spec(expected_duration_minutes=61), (RUN, GKE), RUN),
        (spec(provider="gke"), ALL, GKE),
        (spec(), (GKE,), GKE),
        (spec(), (STATIONS,), STATIONS),
    ],
)
def test_the_choice(request_: SessionSpec, configured: tuple[ProviderName, ...], wanted: ProviderName) -> None:
    provider, reason = choose(request_, configured)
    assert provider is wanted
    assert reason


@pytest.mark.parametrize(
    ("request_", "configured", "field"),
    [
        (spec(provider="gke"), (RUN,), "provider"),
        (spec(needs_ssh=True), (RUN, GKE), "needs_ssh"),
        (spec(needs_ssh=True, provider="cloud_run"), ALL, "needs_ssh"),
    ],
)
def test_what_nobody_can_serve_names_the_field(
    request_: SessionSpec, configured: tuple[ProviderName, ...], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        choose(request_, configured)
    assert list(refusal.value.errors) == [field]
