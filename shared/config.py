"""Settings: the only reader of the environment. Fails at start, naming the variable, its value and the one wanted."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

DEFAULT_QUEUE = "onmemos-{step}"
DEFAULT_WORKSTATIONS_CONFIG = "onmemos-{template}"
DEFAULT_WORKSTATIONS_URL = (
    "https://{port}-{host}"  # cloud.google.com/workstations/docs/develop-code-using-client-libraries
)
CLUSTER = r"projects/[^/]+/locations/[^/]+/clusters/[^/]+"
WORKSTATION_CLUSTER = r"projects/[^/]+/locations/[^/]+/workstationClusters/[^/]+"
# As browsers send it: www.rfc-editor.org/rfc/rfc6454#section-6
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]{1,5})?")
DEFAULT_PORT = 8080
DEFAULT_DATABASE = "(default)"
GOOGLE_CERTS_URL = "https://www.googleapis.com/oauth2/v3/certs"


class ConfigError(ValueError):
    """A setting is missing or unusable."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A deployment. The `*_host` settings are the emulators' addresses (host:port or URL); "" is the cloud itself.

    project, location: where everything lives. image: a workspace's, with `{template}`. function_url: where Cloud Tasks
    finds a function, with `{function}` or `{service}` (its name with dashes). queue: a step's queue, with `{step}`.
    ticket_key: Ed25519 private key, in PEM or its 32 bytes in base64. bootstrap_key: the first API key. task_account:
    the service account whose pushes the task functions accept. allowed_origins: whose pages may call the API from a
    browser; "*": anybody's.
    templates_file: the deployment's own templates; unavailable_templates: why some cannot start, by name. relay_url:
    where the relay answers. workspace_account: what sessions on Cloud Run run as, with `{tenant}` where each tenant has
    its own. closed_subnetwork, filestore_subnetwork: for sessions without a way out, and with NFS.
    cloud_run_mode: what a session on Cloud Run is, a service or an instance. gke_*: providers.gke_manifests.GkeSettings
    has them; with neither a kubeconfig nor a cluster there is no GKE. workstations_*: the cluster ("": there are no
    workstations), the configuration, with `{template}` where there is one for each, their machine, and where a port
    of one answers, with `{port}` and `{host}`.
    """

    project: str
    location: str
    image: str
    function_url: str
    ticket_key: str
    task_account: str
    bootstrap_key: str = ""
    templates_file: str = ""
    unavailable_templates: Mapping[str, str] = field(default_factory=dict)
    relay_url: str = ""
    allowed_origins: tuple[str, ...] = ()
    filestore_subnetwork: str = ""
    queue: str = DEFAULT_QUEUE
    workspace_account: str = ""
    closed_subnetwork: str = ""
    cloud_run_mode: str = "service"
    gke_kubeconfig: str = ""
    gke_cluster: str = ""
    gke_runtime_class: str = ""
    gke_pod_network: bool = False
    gke_buckets: bool = True
    gke_service_account: str = ""
    gke_storage_class: str = ""
    gke_disk_gib: int = 10
    gke_warm_pool: str = ""
    workstations_cluster: str = ""
    workstations_config: str = DEFAULT_WORKSTATIONS_CONFIG
    workstations_url: str = DEFAULT_WORKSTATIONS_URL
    workstations_cpu: int = 2
    workstations_memory_gib: int = 8
    workstations_host: str = ""
    firestore_database: str = DEFAULT_DATABASE
    firestore_host: str = ""
    storage_host: str = ""
    tasks_host: str = ""
    run_host: str = ""
    oidc_certs_url: str = GOOGLE_CERTS_URL

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Read and check. Raises ConfigError."""
        read = _Reader(environment)
        return cls(
            project=read.optional("GOOGLE_CLOUD_PROJECT")
            or read.optional("GCLOUD_PROJECT")  # Firebase's, which lets nobody set the other
            or read.required("GOOGLE_CLOUD_PROJECT", "the project's id"),
            location=read.required("ONMEMOS_LOCATION", "a region, such as us-central1"),
            image=read.pattern("ONMEMOS_IMAGE", "{template}"),
            function_url=read.pattern("ONMEMOS_FUNCTION_URL", "{function}", or_else="{service}"),
            ticket_key=read.secret("ONMEMOS_TICKET_KEY", "an Ed25519 private key, in PEM or its 32 bytes in base64"),
            task_account=read.required("ONMEMOS_TASK_ACCOUNT", "the e-mail address of a service account"),
            bootstrap_key=read.optional_secret("ONMEMOS_API_KEY", "the deployment's first API key"),
            templates_file=read.optional("ONMEMOS_TEMPLATES_FILE"),
            unavailable_templates=read.reasons("ONMEMOS_UNAVAILABLE_TEMPLATES"),
            relay_url=read.optional("ONMEMOS_RELAY_URL").rstrip("/"),
            allowed_origins=read.origins("ONMEMOS_ALLOWED_ORIGINS"),
            filestore_subnetwork=read.optional("ONMEMOS_FILESTORE_SUBNETWORK"),
            queue=read.pattern("ONMEMOS_QUEUE", "{step}", DEFAULT_QUEUE),
            cloud_run_mode=read.choice("CLOUD_RUN_MODE", "service", "instance"),
            gke_kubeconfig=read.optional("ONMEMOS_KUBECONFIG"),
            gke_cluster=read.name("ONMEMOS_GKE_CLUSTER", CLUSTER, "projects/P/locations/L/clusters/C"),
            gke_runtime_class=read.optional("ONMEMOS_GKE_RUNTIME_CLASS"),
            gke_pod_network=read.flag("ONMEMOS_GKE_POD_NETWORK", default=False),
            gke_buckets=read.flag("ONMEMOS_GKE_BUCKETS", default=True),
            gke_service_account=read.optional("ONMEMOS_GKE_SERVICE_ACCOUNT"),
            gke_storage_class=read.optional("ONMEMOS_GKE_STORAGE_CLASS"),
            gke_disk_gib=read.number("ONMEMOS_GKE_DISK_GIB", 10),
            gke_warm_pool=read.name("ONMEMOS_GKE_WARM_POOL", r"[^/]+/[^/]+", "namespace/pool"),
            workstations_cluster=read.name(
                "ONMEMOS_WORKSTATIONS_CLUSTER", WORKSTATION_CLUSTER, "projects/P/locations/L/workstationClusters/C"
            ),
            workstations_config=read.optional("ONMEMOS_WORKSTATIONS_CONFIG") or DEFAULT_WORKSTATIONS_CONFIG,
            workstations_url=read.pattern("ONMEMOS_WORKSTATIONS_URL", "{host}", DEFAULT_WORKSTATIONS_URL),
            workstations_cpu=read.number("ONMEMOS_WORKSTATIONS_CPU", 2),
            workstations_memory_gib=read.number("ONMEMOS_WORKSTATIONS_MEMORY_GIB", 8),
            workstations_host=read.optional("WORKSTATIONS_EMULATOR_HOST"),
            workspace_account=read.optional("ONMEMOS_WORKSPACE_ACCOUNT"),
            closed_subnetwork=read.optional("ONMEMOS_CLOSED_SUBNETWORK"),
            firestore_database=read.optional("ONMEMOS_FIRESTORE_DATABASE") or DEFAULT_DATABASE,
            firestore_host=read.optional("FIRESTORE_EMULATOR_HOST"),
            storage_host=read.optional("STORAGE_EMULATOR_HOST"),
            tasks_host=read.optional("ONMEMOS_TASKS_EMULATOR_HOST")  # Firebase sets the other to one that is not gRPC
            or read.optional("CLOUD_TASKS_EMULATOR_HOST"),
            run_host=read.optional("CLOUD_RUN_EMULATOR_HOST"),
            oidc_certs_url=read.optional("ONMEMOS_OIDC_CERTS_URL") or GOOGLE_CERTS_URL,
        )


def port(environment: Mapping[str, str] = os.environ) -> int:
    """Where a program of its own listens: cloud.google.com/run/docs/container-contract. Raises ConfigError."""
    return _Reader(environment).number("PORT", DEFAULT_PORT)


@dataclass(frozen=True, slots=True)
class _Reader:
    environment: Mapping[str, str]

    def optional(self, name: str) -> str:
        return self.environment.get(name, "").strip()

    def required(self, name: str, wanted: str) -> str:
        return self._checked(name, self.optional(name), bool, wanted)

    def pattern(self, name: str, placeholder: str, default: str = "", or_else: str = "") -> str:
        """Text that holds the placeholder, or the other one."""
        value = self.optional(name) or default
        places = [place for place in (placeholder, or_else) if place]
        wanted = f"text that holds {' or '.join(places)}"
        return self._checked(name, value, lambda text: any(place in text for place in places), wanted)

    def choice(self, name: str, *wanted: str) -> str:
        """One of `wanted`; the first where nothing is set."""
        value = self.optional(name) or wanted[0]
        return self._checked(name, value, lambda text: text in wanted, " or ".join(wanted))

    def name(self, name: str, form: str, wanted: str) -> str:
        """Text of this form, or ""."""
        value = self.optional(name)
        return self._checked(name, value, lambda text: not text or re.fullmatch(form, text) is not None, wanted)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.optional(name).lower() or str(default).lower()
        return self._checked(name, value, lambda text: text in {"true", "false"}, "true or false") == "true"

    def number(self, name: str, default: int) -> int:
        value = self.optional(name) or str(default)
        return int(self._checked(name, value, re.compile("[1-9][0-9]{0,8}").fullmatch, "a whole number above 0"))

    def secret(self, name: str, wanted: str) -> str:
        """The variable itself, or the file that NAME_FILE names (how Secret Manager mounts one)."""
        return self._checked(
            name, self.optional_secret(name, wanted), bool, f"{wanted}, or {name}_FILE the path of one"
        )

    def optional_secret(self, name: str, wanted: str) -> str:
        """The same; "" where neither is set."""
        file = self.optional(f"{name}_FILE")
        if not file:
            return self.optional(name)
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as exc:
            raise ConfigError(f"{name}_FILE: cannot read '{file}' ({exc.strerror}); wanted {wanted}") from exc

    def origins(self, name: str) -> tuple[str, ...]:
        """Web origins with commas between them, or "*" for all."""
        found = tuple(filter(None, (origin.strip() for origin in self.optional(name).split(","))))
        for origin in found:
            self._checked(
                name, origin, lambda text: text == "*" or ORIGIN.fullmatch(text), "* or https://HOST[:PORT],…"
            )
        return found

    def reasons(self, name: str) -> dict[str, str]:
        """A JSON object of strings; percent-encoded where it comes through a file that knows no quotes."""
        text = self.optional(name) or "{}"
        try:
            found = json.loads(unquote(text))
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise ConfigError(f"{name}: got '{text}', wanted a JSON object of strings")
        return found

    @staticmethod
    def _checked(name: str, value: str, good: Callable[[str], object], wanted: str) -> str:
        if not good(value):
            raise ConfigError(f"{name}: got '{value}', wanted {wanted}")
        return value
