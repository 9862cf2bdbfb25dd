"""Tickets open one session for some minutes, and the public keys suffice to check them."""

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared.tickets import Tickets, new_private_key
from tests.fakes import Clock

NOW_IS_NOT_CHECKED: jwt.types.Options = {"verify_exp": False, "verify_iat": False}


def check(token: str, keys: str, audience: str) -> dict[str, object]:
    key = jwt.PyJWKSet.from_json(keys)[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, object] = jwt.decode(token, key, ["EdDSA"], audience=audience, options=NOW_IS_NOT_CHECKED)
    return claims


def test_a_ticket_opens_its_session_alone() -> None:
    clock = Clock()
    tickets = Tickets(new_private_key(), clock=clock)
    ticket = tickets.issue("ws-a", "key")
    claims = check(ticket.token, tickets.public_keys(), "ws-a")
    assert (claims["iss"], claims["sub"]) == ("onmemos", "key")
    assert claims["exp"] == int(ticket.expires_at.timestamp())
    with pytest.raises(jwt.InvalidAudienceError):
        check(ticket.token, tickets.public_keys(), "ws-b")


def test_another_deployments_ticket_opens_nothing() -> None:
    mine, theirs = Tickets(new_private_key(), clock=Clock()), Tickets(new_private_key(), clock=Clock())
    with pytest.raises(KeyError):
        check(theirs.issue("ws-a", "key").token, mine.public_keys(), "ws-a")


def test_the_public_keys_hold_nothing_private() -> None:
    (key,) = json.loads(Tickets(new_private_key(), clock=Clock()).public_keys())["keys"]
    assert set(key) == {"kty", "crv", "x", "kid", "alg", "use"}


def test_a_ticket_is_handed_out_again_while_it_is_fresh() -> None:
    clock = Clock()
    tickets = Tickets(new_private_key(), clock=clock)
    first = tickets.issue("ws-a", "key")
    clock.advance(minutes=2)
    assert tickets.issue("ws-a", "key") is first
    clock.advance(minutes=1, seconds=1)
    assert tickets.issue("ws-a", "key").expires_at > first.expires_at


def test_a_seed_in_base64_is_the_same_key_as_its_pem() -> None:
    pem = new_private_key()
    key = load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    seed = base64.b64encode(key.private_bytes_raw()).decode()
    assert Tickets(seed, clock=Clock()).public_keys() == Tickets(pem, clock=Clock()).public_keys()


@pytest.mark.parametrize(
    ("text", "seen"), [("no key", "is neither"), (base64.b64encode(bytes(31)).decode(), "31 bytes")]
)
def test_what_is_neither_a_pem_nor_a_seed_is_refused_without_showing_it(text: str, seen: str) -> None:
    with pytest.raises(ValueError, match=seen) as refused:
        Tickets(text, clock=Clock())
    assert text not in str(refused.value)


def test_a_key_of_another_kind_is_refused_by_name() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="Ed25519"):
        Tickets(pem.decode(), clock=Clock())
