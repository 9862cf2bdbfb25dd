"""Identity tokens that a relying party can check against the JWKS document."""

import json
import stat
from pathlib import Path

import jwt
import pytest

from infra.emulators.oidc import OidcTokens

EMAIL = "tasks@p.iam.gserviceaccount.com"


def checked(tokens: OidcTokens, token: str, audience: str) -> dict[str, object]:
    keys = jwt.PyJWKSet.from_json(json.dumps(tokens.jwks()))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    return jwt.decode(token, key, algorithms=["RS256"], audience=audience, issuer="https://accounts.google.com")


def test_a_token_says_who_for_whom_and_for_how_long(tmp_path: Path) -> None:
    tokens = OidcTokens(tmp_path / "key.pem")
    claims = checked(tokens, tokens.mint(EMAIL, "https://target/work"), "https://target/work")
    assert claims["email"] == EMAIL
    assert claims["email_verified"] is True
    assert int(str(claims["exp"])) - int(str(claims["iat"])) == 3600
    assert str(claims["sub"]).isdigit()


def test_a_token_opens_no_other_audience(tmp_path: Path) -> None:
    tokens = OidcTokens(tmp_path / "key.pem")
    with pytest.raises(jwt.InvalidAudienceError):
        checked(tokens, tokens.mint(EMAIL, "https://one"), "https://other")


def test_the_key_outlives_the_process(tmp_path: Path) -> None:
    before = OidcTokens(tmp_path / "keys" / "key.pem")
    after = OidcTokens(tmp_path / "keys" / "key.pem")
    assert before.jwks() == after.jwks()
    assert checked(after, before.mint(EMAIL, "a"), "a")["email"] == EMAIL


def test_the_key_is_the_owners_alone_and_no_draft_is_left(tmp_path: Path) -> None:
    OidcTokens(tmp_path / "key.pem")
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


def test_a_file_that_holds_no_key_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("not a key")
    with pytest.raises(ValueError, match=r"key\.pem holds no private key"):
        OidcTokens(tmp_path / "key.pem")


def test_the_jwks_document_holds_nothing_private(tmp_path: Path) -> None:
    (key,) = OidcTokens(tmp_path / "key.pem").jwks()["keys"]
    assert set(key) == {"kty", "n", "e", "alg", "use", "kid"}
    assert (key["kty"], key["alg"], key["use"]) == ("RSA", "RS256", "sig")


def test_a_token_is_reused_for_a_while_and_then_renewed(tmp_path: Path) -> None:
    now = 1_000_000.0
    tokens = OidcTokens(tmp_path / "key.pem", clock=lambda: now)
    first = tokens.mint(EMAIL, "a")
    assert tokens.mint(EMAIL, "a") == first
    assert tokens.mint(EMAIL, "b") != first
    now += 601
    assert tokens.mint(EMAIL, "a") != first
