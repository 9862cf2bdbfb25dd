"""The local stack's settings: the only reader of the environment in `infra.local`."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

PROJECT = Path(__file__).resolve().parents[2]
HOME = PROJECT / ".onmemos"
API_KEY = "your-api-key"

# Both a shell that sources .onmemos/env and `docker run --env-file` must read the same value from it.
_WARM_POOL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?/(?:[a-z0-9-]|\{template\}){1,63}")
_API_KEY = re.compile(r"[A-Za-z0-9._+/=:@-]{1,256}")


Kind = TypeVar("Kind", bound=StrEnum)


class SettingsError(ValueError):
    """A setting is unusable; the message names the variable, what it holds and what is wanted."""


class Sandbox(StrEnum):
    """How sessions are isolated; `auto` takes what this machine has."""

    AUTO = "auto"
    BUBBLEWRAP = "bubblewrap"
    GVISOR = "gvisor"
    DOCKER = "docker"


class Egress(StrEnum):
    """How sessions reach the internet; `auto` takes the first of these that this machine has."""

    AUTO = "auto"
    SLIRP4NETNS = "slirp4netns"
    PASTA = "pasta"
    PROXY = "proxy"
    NONE = "none"


class Firestore(StrEnum):
    """Which Firestore: Google's emulator on a Java machine, our own, or `auto`: Google's where it is found."""

    AUTO = "auto"
    OFFICIAL = "official"
    EMBEDDED = "embedded"


class CloudRunMode(StrEnum):
    """What a session on Cloud Run is: a service, or an instance that can be stopped."""

    SERVICE = "service"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class Ports:
    """Every port of the stack, all on 127.0.0.1; 0 takes any that is free.

    gateway: the API. functions: where Cloud Tasks pushes. firestore: Google's emulator. emulators: gRPC of Cloud Run,
    Cloud Tasks, Workstations and our own Firestore. storage: Cloud Storage. http: the certificates that pushes are
    signed with. kubernetes: its API server. workstations: where their hosts answer.
    """

    gateway: int = 8080
    functions: int = 8081
    firestore: int = 8082
    emulators: int = 8083
    storage: int = 8084
    http: int = 8085
    kubernetes: int = 8086
    workstations: int = 8087


PORT_VARIABLES: Mapping[str, str] = {
    "gateway": "ONMEMOS_PORT",
    "functions": "ONMEMOS_FUNCTIONS_PORT",
    "firestore": "ONMEMOS_FIRESTORE_PORT",
    "emulators": "ONMEMOS_EMULATORS_PORT",
    "storage": "ONMEMOS_STORAGE_PORT",
    "http": "ONMEMOS_HTTP_PORT",
    "kubernetes": "ONMEMOS_KUBERNETES_PORT",
    "workstations": "ONMEMOS_WORKSTATIONS_PORT",
}
ANY_PORTS = Ports(*[0] * len(PORT_VARIABLES))


@dataclass(frozen=True, slots=True)
class Settings:
    """One stack. `home` holds all that outlives it; `inherited` is the environment that its processes start from.

    `firestore_host`: a Firestore emulator that runs already ("host:port"), "" for none. `templates_file`: the
    deployment's own templates. `cloud_run_mode`: what sessions on Cloud Run are. `allowed_origins`: whose pages may
    call the API, as shared.config reads them. `warm_pool`: namespace/pool of Agent Sandbox that sessions of the
    template python on GKE come from; "": none.
    """

    home: Path = HOME
    api_key: str = API_KEY
    ports: Ports = Ports()
    sandbox: Sandbox = Sandbox.AUTO
    egress: Egress = Egress.AUTO
    firestore: Firestore = Firestore.AUTO
    firestore_host: str = ""
    templates_file: Path | None = None
    cloud_run_mode: CloudRunMode = CloudRunMode.SERVICE
    allowed_origins: str = ""
    warm_pool: str = ""
    inherited: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check. Raises SettingsError."""
        home = environment.get("ONMEMOS_HOME", "").strip()
        templates_file = environment.get("ONMEMOS_TEMPLATES_FILE", "").strip()
        return cls(
            home=Path(home).expanduser().resolve() if home else HOME,
            api_key=_api_key(environment),
            ports=Ports(**{name: _port(environment, name) for name in PORT_VARIABLES}),
            sandbox=_choice(environment, "ONMEMOS_SANDBOX", Sandbox.AUTO),
            egress=_choice(environment, "ONMEMOS_EGRESS", Egress.AUTO),
            firestore=_choice(environment, "ONMEMOS_FIRESTORE", Firestore.AUTO),
            firestore_host=environment.get("FIRESTORE_EMULATOR_HOST", "").strip(),
            templates_file=Path(templates_file).expanduser().resolve() if templates_file else None,
            cloud_run_mode=_choice(environment, "CLOUD_RUN_MODE", CloudRunMode.SERVICE),
            allowed_origins="".join(environment.get("ONMEMOS_ALLOWED_ORIGINS", "").split()),
            warm_pool=_warm_pool(environment),
            inherited=dict(environment),
        )

    @property
    def state(self) -> Path:
        """What the emulators keep: databases and the sessions' folders."""
        return self.home / "state"

    @property
    def buckets(self) -> Path:
        """Cloud Storage's buckets, as folders of files."""
        return self.home / "buckets"

    @property
    def uploads(self) -> Path:
        """Objects that are not complete yet; on the file system of the buckets."""
        return self.home / "uploads"

    @property
    def logs(self) -> Path:
        """A log for each process of the stack."""
        return self.home / "logs"

    @property
    def ticket_key(self) -> Path:
        """The private key that signs tickets."""
        return self.home / "keys" / "tickets.pem"

    @property
    def kubeconfig(self) -> Path:
        """What kubectl takes to reach the Kubernetes emulator, and the functions."""
        return self.home / "kubeconfig"

    @property
    def env_file(self) -> Path:
        """The stack's addresses, while it runs."""
        return self.home / "env"

    @property
    def runtime(self) -> Path:
        """Where sockets are while the stack runs: a short path, because a Unix socket's has 107 bytes at most.

        The same at every start of one home, so that what a killed stack left is found.
        """
        return Path("/tmp") / f"onmemos-{sha256(bytes(self.home)).hexdigest()[:8]}"  # noqa: S108  # made 0700, and refused if it is not ours


def _port(environment: Mapping[str, str], name: str) -> int:
    variable = PORT_VARIABLES[name]
    given = environment.get(variable, "").strip()
    if not given:
        return int(getattr(Ports(), name))
    if not given.isascii() or not given.isdigit() or int(given) > 65535:
        raise SettingsError(f"{variable}: got '{given}', wanted a port from 0 (any that is free) to 65535")
    return int(given)


def _api_key(environment: Mapping[str, str]) -> str:
    given = environment.get("ONMEMOS_API_KEY", "").strip() or API_KEY
    if not _API_KEY.fullmatch(given):
        raise SettingsError(
            "ONMEMOS_API_KEY: holds characters that not every reader of an env file takes; "
            "wanted letters, digits and ._+/=:@- (at most 256)"
        )
    return given


def _warm_pool(environment: Mapping[str, str]) -> str:
    given = environment.get("ONMEMOS_GKE_WARM_POOL", "").strip()
    if given and not _WARM_POOL.fullmatch(given):
        raise SettingsError(
            f"ONMEMOS_GKE_WARM_POOL: got '{given}', wanted namespace/pool in lower-case letters, digits and '-'"
        )
    return given


def _choice(environment: Mapping[str, str], variable: str, default: Kind) -> Kind:
    given = environment.get(variable, "").strip().lower() or default
    try:
        return type(default)(given)
    except ValueError:
        raise SettingsError(f"{variable}: got '{given}', wanted one of {', '.join(type(default))}") from None
