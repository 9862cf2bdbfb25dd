"""Settings of the agent, from the environment of its container: the one place that knows the variables' names."""

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import SettingsError

OUTPUT_LIMIT_BYTES = 10_000_000  # per stream; an answer of two full streams still fits a Cloud Run response of 32 MiB
WORKDIR = "/workspace"
PUBLIC_KEY_BYTES = 32  # Ed25519: RFC 8032, 5.1.5
MAX_PORT = 65_535
OURS = ("ONMEMOS_", "K_")  # K_SERVICE, K_REVISION, …: Cloud Run's facts about the agent's container


@dataclass(frozen=True, slots=True)
class Settings:
    """How this agent serves.

    `ticket_keys` are the public Ed25519 keys (JSON Web Keys by key id) that a ticket may be signed with. One of
    `socket` (path of a Unix socket, which wins) and `port` (TCP, all interfaces) is set. `environment` is what
    commands inherit. `awaits_files_s`: how long nothing is started while no files have come; 0: none are to come.
    `state`: a folder that outlives the container's restarts, where an adoption is remembered.
    """

    session_id: str
    ticket_keys: Mapping[str, Mapping[str, str]]
    socket: str | None
    port: int | None
    workdir: str
    output_limit_bytes: int
    environment: Mapping[str, str]
    awaits_files_s: int = 0
    state: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Raises SettingsError, which names the variable, the value seen and the value wanted."""
        socket = environment.get("ONMEMOS_AGENT_SOCKET") or None
        port = None if socket else _whole_number(environment, "PORT", None, MAX_PORT)
        return cls(
            session_id=_present(environment, "WORKSPACE_ID", "the session's id"),
            ticket_keys=_ticket_keys(environment),
            socket=socket,
            port=port,
            workdir=environment.get("ONMEMOS_AGENT_WORKDIR") or WORKDIR,
            output_limit_bytes=_whole_number(environment, "ONMEMOS_AGENT_OUTPUT_LIMIT_BYTES", OUTPUT_LIMIT_BYTES, None),
            environment=for_commands(environment),
            awaits_files_s=awaits_files_s(environment),
            state=environment.get("ONMEMOS_AGENT_STATE") or None,
        )


def awaits_files_s(environment: Mapping[str, str]) -> int:
    """Also an adopted agent's. Raises SettingsError."""
    return _whole_number(environment, "ONMEMOS_AGENT_AWAITS_FILES_S", 0, None)


def for_commands(environment: Mapping[str, str]) -> dict[str, str]:
    """What commands inherit: all but the agent's own variables."""
    return {name: value for name, value in environment.items() if name != "PORT" and not name.startswith(OURS)}


def _present(environment: Mapping[str, str], name: str, wanted: str) -> str:
    value = environment.get(name)
    if not value:
        raise SettingsError(f"{name} is {value!r}; wanted {wanted}")
    return value


def _whole_number(environment: Mapping[str, str], name: str, default: int | None, highest: int | None) -> int:
    text = environment.get(name)
    if not text and default is not None:
        return default
    wanted = "a whole number" + (f" from 0 to {highest}" if highest is not None else ", 0 or more")
    if name == "PORT":
        wanted += " (or ONMEMOS_AGENT_SOCKET, a path)"
    if not text or not text.isascii() or not text.isdigit() or (highest is not None and int(text) > highest):
        raise SettingsError(f"{name} is {text!r}; wanted {wanted}")
    return int(text)


def _ticket_keys(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    wanted = 'a JWK set with at least one Ed25519 key: {"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": …, "x": …}]}'
    text = _present(environment, "ONMEMOS_TICKET_KEYS", wanted)
    try:
        keys = [_ticket_key(jwk) for jwk in json.loads(text)["keys"]]
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        raise SettingsError(f"ONMEMOS_TICKET_KEYS cannot be used ({exc}); wanted {wanted}") from exc
    if not keys:
        raise SettingsError(f"ONMEMOS_TICKET_KEYS has no key; wanted {wanted}")
    return {jwk["kid"]: jwk for jwk in keys}


def _ticket_key(jwk: dict[str, str]) -> dict[str, str]:
    seen = jwk.get("kty"), jwk.get("crv"), jwk.get("alg", "EdDSA")
    if seen != ("OKP", "Ed25519", "EdDSA"):
        raise ValueError(f"a key is {seen}")
    kid, x = jwk["kid"], jwk["x"]
    if not isinstance(kid, str) or not kid:
        raise ValueError(f"a key has the kid {kid!r}")
    if len(urlsafe_b64decode(x + "=" * (-len(x) % 4))) != PUBLIC_KEY_BYTES:
        raise ValueError(f"the key {kid} is not {PUBLIC_KEY_BYTES} bytes long")
    return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": kid, "x": x}
