"""Settings: the only reader of the environment. Fails at start, naming the variable, its value and the one wanted."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

DEFAULT_QUEUE = "onmemos-{step}"
DEFAULT_DATABASE = "(default)"
GOOGLE_CERTS_URL = "https://www.googleapis.com/oauth2/v3/certs"


class ConfigError(ValueError):
    """A setting is missing or unusable."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A deployment. The `*_host` settings are the emulators' addresses (host:port or URL); "" is the cloud itself.

    project, location: where everything lives. image: a workspace's, with `{template}`. function_url: where Cloud Tasks
    finds a function, with `{function}`. queue: a step's queue, with `{step}`. ticket_key: Ed25519 private key, PEM.
    bootstrap_key: the first API key. task_account: the service account whose pushes the task functions accept.
    templates_file: the deployment's own templates; unavailable_templates: why some cannot start, by name. relay_url:
    where the relay answers. closed_subnetwork, filestore_subnetwork: for sessions without a way out, and with NFS.
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
    filestore_subnetwork: str = ""
    queue: str = DEFAULT_QUEUE
    workspace_account: str = ""
    closed_subnetwork: str = ""
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
            project=read.required("GOOGLE_CLOUD_PROJECT", "the project's id"),
            location=read.required("ONMEMOS_LOCATION", "a region, such as us-central1"),
            image=read.pattern("ONMEMOS_IMAGE", "{template}"),
            function_url=read.pattern("ONMEMOS_FUNCTION_URL", "{function}"),
            ticket_key=read.secret("ONMEMOS_TICKET_KEY", "an Ed25519 private key in PEM"),
            task_account=read.required("ONMEMOS_TASK_ACCOUNT", "the e-mail address of a service account"),
            bootstrap_key=read.optional_secret("ONMEMOS_API_KEY", "the deployment's first API key"),
            templates_file=read.optional("ONMEMOS_TEMPLATES_FILE"),
            unavailable_templates=read.reasons("ONMEMOS_UNAVAILABLE_TEMPLATES"),
            relay_url=read.optional("ONMEMOS_RELAY_URL").rstrip("/"),
            filestore_subnetwork=read.optional("ONMEMOS_FILESTORE_SUBNETWORK"),
            queue=read.pattern("ONMEMOS_QUEUE", "{step}", DEFAULT_QUEUE),
            workspace_account=read.optional("ONMEMOS_WORKSPACE_ACCOUNT"),
            closed_subnetwork=read.optional("ONMEMOS_CLOSED_SUBNETWORK"),
            firestore_database=read.optional("ONMEMOS_FIRESTORE_DATABASE") or DEFAULT_DATABASE,
            firestore_host=read.optional("FIRESTORE_EMULATOR_HOST"),
            storage_host=read.optional("STORAGE_EMULATOR_HOST"),
            tasks_host=read.optional("CLOUD_TASKS_EMULATOR_HOST"),
            run_host=read.optional("CLOUD_RUN_EMULATOR_HOST"),
            oidc_certs_url=read.optional("ONMEMOS_OIDC_CERTS_URL") or GOOGLE_CERTS_URL,
        )


@dataclass(frozen=True, slots=True)
class _Reader:
    environment: Mapping[str, str]

    def optional(self, name: str) -> str:
        return self.environment.get(name, "").strip()

    def required(self, name: str, wanted: str) -> str:
        return self._checked(name, self.optional(name), bool, wanted)

    def pattern(self, name: str, placeholder: str, default: str = "") -> str:
        value = self.optional(name) or default
        return self._checked(name, value, lambda text: placeholder in text, f"text that holds {placeholder}")

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
    def _checked(name: str, value: str, good: Callable[[str], bool], wanted: str) -> str:
        if not good(value):
            raise ConfigError(f"{name}: got '{value}', wanted {wanted}")
        return value
