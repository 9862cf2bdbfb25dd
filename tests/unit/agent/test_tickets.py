"""Tickets under a clock of our own: what opens, until when, and what is remembered."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.workspace.agent.errors import BadTicket
from infra.workspace.agent.tickets import LEEWAY_S, MAX_REMEMBERED, Tickets

FAR = 4_000_000_000  # PyJWT looks at the real clock; ours decides about what is remembered
OLD, NEW = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    return dict(json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key())))


def _token(key: Ed25519PrivateKey = OLD, kid: str = "old", **changes: Any) -> str:
    claims = {"iss": "onmemos", "aud": "ws-1", "sub": "s", "iat": 0, "exp": FAR, "jti": "j"} | changes
    return jwt.encode(claims, key, "EdDSA", headers={"kid": kid})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tickets(clock: Clock) -> Tickets:
    return Tickets("ws-1", {"old": _jwk(OLD), "new": _jwk(NEW)}, clock=clock)


def test_each_of_the_keys_opens(tickets: Tickets) -> None:
    tickets.check(_token())
    tickets.check(_token(NEW, "new"))


def test_a_key_under_anothers_id_does_not_open(tickets: Tickets) -> None:
    with pytest.raises(BadTicket, match="not valid"):
        tickets.check(_token(NEW, "old"))


def test_a_refusal_says_why(tickets: Tickets) -> None:
    for token, reason in (
        (_token(aud="ws-2"), "another session"),
        (_token(exp=1), "expired"),
        (_token(kid="x"), "'x', which this workspace does not know"),
        ("nonsense", "not valid"),
        ("é.è.ê", "not valid"),
    ):
        with pytest.raises(BadTicket, match=reason):
            tickets.check(token)


def test_a_remembered_ticket_is_verified_again_once_it_has_expired(tickets: Tickets, clock: Clock) -> None:
    token = _token()
    tickets.check(token)
    clock.now = FAR - 1
    tickets.check(token)
    assert len(tickets._expiry_of) == 1
    tickets._keys.clear()
    tickets.check(token)  # remembered: no key is asked for
    clock.now = FAR
    with pytest.raises(BadTicket, match="does not know"):
        tickets.check(token)


def test_no_more_than_so_many_are_remembered(tickets: Tickets) -> None:
    for number in range(MAX_REMEMBERED + 2):
        tickets._expiry_of[number.to_bytes(2, "big")] = FAR
    tickets.check(_token())
    assert len(tickets._expiry_of) == 1


def test_a_spent_ticket_opens_nothing_any_more(tickets: Tickets) -> None:
    token = _token()
    tickets.check(token)
    tickets.spend(token)
    for use in (tickets.spend, tickets.check):
        with pytest.raises(BadTicket, match="works once"):
            use(token)
    with pytest.raises(BadTicket, match="works once"):
        tickets.check(_token(NEW, "new"))  # it has the same jti
    tickets.check(_token(jti="another"))


def test_only_a_valid_ticket_can_be_spent(tickets: Tickets) -> None:
    with pytest.raises(BadTicket, match="another session"):
        tickets.spend(_token(aud="ws-2"))
    tickets.spend(_token())


def test_a_ticket_from_before_the_agent_cannot_be_spent_but_opens(clock: Clock) -> None:
    clock.now = 1_000_000
    tickets = Tickets("ws-1", {"old": _jwk(OLD)}, clock=clock)
    early, within = _token(iat=1_000_000 - LEEWAY_S - 1), _token(iat=1_000_000 - LEEWAY_S, jti="within")
    with pytest.raises(BadTicket, match="older than the agent"):
        tickets.spend(early)
    tickets.check(early)
    tickets.spend(within)


def test_spent_tickets_are_remembered_as_long_as_they_could_be_used(tickets: Tickets, clock: Clock) -> None:
    tickets.spend(_token())
    for number in range(MAX_REMEMBERED):
        tickets._spent_until[f"gone-{number}"] = 1
    clock.now = 2
    tickets.spend(_token(jti="another"))
    assert set(tickets._spent_until) == {"j", "another"}
