"""Which provider serves which request, and what is said about it."""

import pytest

from shared.choice import choose
from shared.errors import InvalidRequest, ProviderNotConfigured
from shared.models import ProviderName, SessionSpec

RUN, GKE, STATIONS = ProviderName.CLOUD_RUN, ProviderName.GKE, ProviderName.WORKSTATIONS
ALL = (RUN, GKE, STATIONS)
SOONEST = "cloud_run: it starts soonest and costs nothing when it is gone"
LONG = "the work is expected to last 61 minutes, more than 60"
NOT_OFFERED = "which this deployment does not offer"
TOO_MUCH = InvalidRequest.field("resources.memory", "got 40960Mi, wanted at most 32768Mi")


def spec(**changes: object) -> SessionSpec:
    return SessionSpec(template="python", namespace="n", user="u", **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "configured", "wanted", "reasons"),
    [
        (spec(), ALL, RUN, (SOONEST,)),
        (spec(long_lived=True), ALL, GKE, ("gke: the session is long-lived",)),
        (spec(long_lived=True), (RUN,), RUN, (f"the session is long-lived: gke, {NOT_OFFERED}", SOONEST)),
        (spec(long_lived=True), (RUN, STATIONS), RUN, (f"the session is long-lived: gke, {NOT_OFFERED}", SOONEST)),
        (spec(needs_ssh=True), ALL, STATIONS, ("workstations: the session needs SSH",)),
        (spec(needs_ssh=True, long_lived=True), ALL, STATIONS, ("workstations: the session needs SSH",)),
        (spec(expected_duration_minutes=61), ALL, STATIONS, (f"workstations: {LONG}",)),
        (spec(expected_duration_minutes=61, long_lived=True), ALL, STATIONS, (f"workstations: {LONG}",)),
        (spec(expected_duration_minutes=60), ALL, RUN, (SOONEST,)),
        (spec(expected_duration_minutes=61), (RUN, GKE), RUN, (f"{LONG}: workstations, {NOT_OFFERED}", SOONEST)),
        (
            spec(expected_duration_minutes=61, long_lived=True),
            (RUN, GKE),
            GKE,
            (f"{LONG}: workstations, {NOT_OFFERED}", "gke: the session is long-lived"),
        ),
        (spec(provider="gke"), ALL, GKE, ("gke: asked for",)),
        (
            spec(),
            (GKE,),
            GKE,
            (
                f"it starts soonest and costs nothing when it is gone: cloud_run, {NOT_OFFERED}",
                "gke: it can do what is asked",
            ),
        ),
        (
            spec(),
            (STATIONS,),
            STATIONS,
            (
                f"it starts soonest and costs nothing when it is gone: cloud_run, {NOT_OFFERED}",
                "workstations: it can do what is asked",
            ),
        ),
    ],
)  # fmt: skip
def test_the_choice_and_its_reasons(
    request_: SessionSpec, configured: tuple[ProviderName, ...], wanted: ProviderName, reasons: tuple[str, ...]
) -> None:
    choice = choose(request_, configured)
    assert (choice.provider, choice.reasons) == (wanted, reasons)


def test_a_provider_that_has_no_such_workspace_is_passed_over_with_its_own_words() -> None:
    choice = choose(spec(), ALL, {RUN: TOO_MUCH})
    assert choice.provider is GKE
    assert choice.reasons == (
        "cloud_run, which cannot serve it (resources.memory: got 40960Mi, wanted at most 32768Mi)",
        "gke: it can do what is asked",
    )


def test_when_nobody_has_such_a_workspace_the_first_says_why() -> None:
    with pytest.raises(InvalidRequest, match="40960Mi"):
        choose(spec(), (RUN,), {RUN: TOO_MUCH})
    with pytest.raises(InvalidRequest, match="40960Mi"):
        choose(spec(provider="cloud_run"), ALL, {RUN: TOO_MUCH})


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


def test_a_deployment_without_any_provider_says_so() -> None:
    with pytest.raises(ProviderNotConfigured, match="offers none"):
        choose(spec(), ())
