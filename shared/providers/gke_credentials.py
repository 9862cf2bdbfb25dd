"""Where a cluster's API server answers, whom to trust there and what lets us in, by a kubeconfig. Loads no client.

A function that only executes asks this before every command, so all is kept: files are read again once a minute, and a
token is asked for again shortly before it expires, by one caller for all that wait.
"""

import asyncio
import base64
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from shared.errors import ProviderUnavailable

RENEWED_BEFORE_S = 300.0  # of a token's life: google-auth's own threshold is 225 s, a command must not outlive it early
FILE_KEPT_S = 60.0  # as client-go reads a tokenFile: Kubernetes renews projected tokens at 80 % of their life
EXEC_TIMEOUT_S = 30.0
UNSUPPORTED_USER = ("auth-provider", "username", "as", "impersonate")  # the first two are gone from client-go as well
UNSUPPORTED_CLUSTER = ("proxy-url", "tls-server-name")


@dataclass(frozen=True, slots=True)
class Server:
    """An API server: `url` without a slash at its end; `ssl` None where it is plain HTTP or publicly trusted."""

    url: str
    ssl: "ssl.SSLContext | None" = None


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, and when it expires by the monotonic clock; None: never. An empty value is none at all."""

    value: str = field(repr=False)
    expires_at: float | None = None


TokenSource = Callable[[], Awaitable[Token]]


class Credentials(Protocol):
    """Both raise ProviderUnavailable: it cannot be made out now."""

    async def server(self) -> Server: ...

    async def headers(self) -> dict[str, str]:
        """What opens the API server: Authorization, or nothing where the client's certificate does."""

    def forget(self) -> None:
        """The API server did not know us (401): make all of it out anew."""


class Kept:
    """The newest token of a source, asked for by one caller at a time and before the old one expires."""

    def __init__(self, source: TokenSource, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token: Token | None = None

    async def headers(self) -> dict[str, str]:
        token = self._fresh()
        if token is None:
            async with self._lock:
                token = self._fresh()
                if token is None:
                    token = self._token = await self._source()
        return {"Authorization": f"Bearer {token.value}"} if token.value else {}

    def forget(self) -> None:
        self._token = None

    def _fresh(self) -> Token | None:
        token = self._token
        if token is None or (token.expires_at is not None and token.expires_at - self._clock() < RENEWED_BEFORE_S):
            return None
        return token


class Kubeconfig:
    """The current context of a kubeconfig file: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()
        self._opened: tuple[Server, Kept] | None = None
        self._lock = asyncio.Lock()

    async def server(self) -> Server:
        return (await self._open())[0]

    async def headers(self) -> dict[str, str]:
        return await (await self._open())[1].headers()

    def forget(self) -> None:
        self._opened = None

    async def _open(self) -> tuple[Server, Kept]:
        opened = self._opened
        if opened is None:
            async with self._lock:
                opened = self._opened = self._opened or await self._read()
        return opened

    async def _read(self) -> tuple[Server, Kept]:
        try:
            cluster, user = await asyncio.to_thread(self._context)
            certificate, key = user.pop("certificate"), user.pop("key")
            source = self._source(user)
            if "exec" in user:
                status = await _run_plugin(user["exec"])
                if "clientCertificateData" in status:
                    certificate, key = (status[name].encode() for name in ("clientCertificateData", "clientKeyData"))
                    source = _constant(status.get("token", ""))
            url = str(cluster["server"]).rstrip("/")
            context = _trust(cluster, certificate, key) if url.startswith("https") else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration) as exc:
            raise ProviderUnavailable(f"the kubeconfig {self._path} cannot be used: {exc!r}") from exc
        return Server(url, context), Kept(source)

    def _context(self) -> tuple[dict[str, Any], dict[str, Any]]:
        import yaml

        try:
            config = yaml.safe_load(self._path.read_text(encoding="utf-8"))
        except yaml.YAMLError as exc:
            raise ValueError(f"it is no YAML: {exc}") from exc
        if not isinstance(config, dict):
            raise ValueError("got no mapping, wanted a kubeconfig")
        context = _named(config, "contexts", config.get("current-context", ""))["context"]
        cluster = _named(config, "clusters", context["cluster"])["cluster"]
        user = (_named(config, "users", context["user"]).get("user") if context.get("user") else None) or {}
        for part, names in ((user, UNSUPPORTED_USER), (cluster, UNSUPPORTED_CLUSTER)):
            for name in names:
                if name in part:
                    raise ValueError(f"got {name}, wanted a certificate, token, tokenFile or exec and a direct server")
        authority = _bytes(cluster, "certificate-authority", self._path)
        certificate, key = (_bytes(user, f"client-{name}", self._path) for name in ("certificate", "key"))
        return {**cluster, "authority": authority}, {**user, "certificate": certificate, "key": key}

    def _source(self, user: dict[str, Any]) -> TokenSource:
        if user.get("tokenFile"):  # before token, as client-go has it
            file = _beside(self._path, user["tokenFile"])

            async def read() -> Token:
                try:
                    text = await asyncio.to_thread(file.read_text, encoding="utf-8")
                except OSError as exc:
                    raise ProviderUnavailable(f"the token file {file} cannot be read: {exc.strerror}") from exc
                return Token(text.strip(), time.monotonic() + RENEWED_BEFORE_S + FILE_KEPT_S)

            return read
        if "exec" in user:
            return lambda: _plugin_token(user["exec"])
        return _constant(user.get("token", ""))


def _constant(value: str) -> TokenSource:
    async def source() -> Token:
        return Token(value)

    return source


async def _plugin_token(config: dict[str, Any]) -> Token:
    try:
        status = await _run_plugin(config)
        expires_at = None
        if "expirationTimestamp" in status:
            expiry = datetime.fromisoformat(status["expirationTimestamp"])
            expires_at = time.monotonic() + (expiry - datetime.now(UTC)).total_seconds()
        return Token(status["token"], expires_at)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ProviderUnavailable(f"the kubeconfig's exec plugin gave no token: {exc!r}") from exc


async def _run_plugin(config: dict[str, Any]) -> dict[str, Any]:
    """What a credential plugin says. The client library runs it: whoever uses one pays for loading that."""
    from kubernetes.aio.config.config_exception import ConfigException
    from kubernetes.aio.config.exec_provider import ExecProvider
    from kubernetes.aio.config.kube_config import ConfigNode

    node: Any = ConfigNode
    plugin: Any = ExecProvider
    try:
        async with asyncio.timeout(EXEC_TIMEOUT_S):
            status: dict[str, Any] = await plugin(node("exec", config)).run()
    except (ConfigException, TimeoutError) as exc:
        raise ValueError(f"exec {config.get('command')}: {exc!r}") from exc
    return status


def _named(config: dict[str, Any], part: str, name: str) -> dict[str, Any]:
    for entry in config.get(part) or []:
        if entry["name"] == name:
            found: dict[str, Any] = entry
            return found
    raise ValueError(f"{part}: got none named '{name}'")


def _beside(kubeconfig: Path, name: str) -> Path:
    return kubeconfig.parent / name  # an absolute path stays what it is


def _bytes(part: dict[str, Any], name: str, kubeconfig: Path) -> bytes | None:
    """What `name`-data holds in base64, or else the file that `name` names."""
    if data := part.get(f"{name}-data"):
        return base64.b64decode(data)
    return _beside(kubeconfig, part[name]).read_bytes() if part.get(name) else None


def _trust(cluster: dict[str, Any], certificate: bytes | None, key: bytes | None) -> ssl.SSLContext:
    authority: bytes | None = cluster["authority"]
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if authority:  # many clusters' own authorities lack what Python 3.13 wants by this flag; kubectl takes them
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate and key:
        with tempfile.NamedTemporaryFile(prefix="onmemos-", suffix=".pem") as file:  # the library takes files alone
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    return context
