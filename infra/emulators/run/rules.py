"""What Cloud Run refuses about any resource: ids, descriptions, labels, annotations, accounts. Pure.

Every check raises google.api_core's InvalidArgument (INVALID_ARGUMENT, HTTP 400) with the path of the field, or
MethodNotImplemented for what the real service accepts and this emulator does not have.
"""

import re
from collections.abc import Mapping, Sequence

from google.api_core.exceptions import InvalidArgument, MethodNotImplemented
from google.cloud.run_v2 import types

from infra.emulators.run.container_rules import Surroundings, check_container

DESCRIPTION_LIMIT = 512  # characters; Service.description
LABELS_LIMIT = 64  # cloud.google.com/resource-manager/docs/creating-managing-labels#requirements
LABEL_LIMIT = 63  # characters of a key, and of a value
ANNOTATIONS_LIMIT = 256 * 1024  # bytes of all keys and values: Kubernetes' rule, which Service.annotations follows
# Service.labels and Service.annotations: namespaces that the v2 API refuses.
RESERVED_NAMESPACES = (
    "run.googleapis.com",
    "cloud.googleapis.com",
    "serving.knative.dev",
    "autoscaling.knative.dev",
)

DNS_LABEL = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ANNOTATION = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_ACCOUNT = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def check_id(resource_id: str, limit: int, field: str) -> None:
    if len(resource_id) > limit or DNS_LABEL.fullmatch(resource_id) is None:
        raise violation(
            field,
            "only lowercase, digits, and hyphens; must begin with letter, and cannot end with hyphen; "
            f"must be less than {limit + 1} characters (got {resource_id!r}, {len(resource_id)} characters)",
        )


def check_description(description: str, field: str) -> None:
    if len(description) > DESCRIPTION_LIMIT:
        raise violation(field, f"at most {DESCRIPTION_LIMIT} characters, got {len(description)}")


def check_only_container(containers: Sequence[types.Container], around: Surroundings, field: str) -> None:
    """`field` is the path of the list."""
    if not containers:
        raise violation(field, "required field not present")
    if len(containers) > 1:
        raise MethodNotImplemented(f"{field}: the emulator runs one container, without sidecars")
    check_container(containers[0], around, f"{field}[0]")


def check_account(account: str, field: str) -> None:
    if account and _ACCOUNT.fullmatch(account) is None:
        raise violation(field, f"must be the email of a service account, got {account!r}")


def check_duration(seconds: float, limit_s: int, field: str) -> None:
    if not 0 <= seconds <= limit_s:
        raise violation(field, f"must be between 0 and {limit_s} seconds, got {seconds:g} seconds")


def check_labels(labels: Mapping[str, str], field: str) -> None:
    if len(labels) > LABELS_LIMIT:
        raise violation(field, f"at most {LABELS_LIMIT} labels, got {len(labels)}")
    for key, value in labels.items():
        _check_namespace(key, field)
        if not (key and len(key) <= LABEL_LIMIT and key[0].isalpha() and all(map(_is_label_character, key))):
            raise violation(
                f"{field}[{key!r}]",
                "a key is a lowercase letter followed by lowercase letters, digits, _ and -, "
                f"{LABEL_LIMIT} characters at most",
            )
        if len(value) > LABEL_LIMIT or not all(map(_is_label_character, value)):
            raise violation(
                f"{field}[{key!r}]",
                f"a value has lowercase letters, digits, _ and -, {LABEL_LIMIT} characters at most; got {value!r}",
            )


def _is_label_character(character: str) -> bool:
    """Letters of scripts without case (Chinese, say) are allowed; uppercase ones are not."""
    return character in "_-" or character.isdigit() or (character.isalpha() and character == character.lower())


def check_annotations(annotations: Mapping[str, str], field: str) -> None:
    for key in annotations:
        _check_namespace(key, field)
        if _ANNOTATION.fullmatch(key) is None:
            raise violation(f"{field}[{key!r}]", "a key is [DNS name/]name, the name at most 63 characters")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size > ANNOTATIONS_LIMIT:
        raise violation(field, f"at most {ANNOTATIONS_LIMIT} bytes in all, got {size}")


def _check_namespace(key: str, field: str) -> None:
    namespace = key.split("/", 1)[0]
    for reserved in RESERVED_NAMESPACES:
        if namespace == reserved or namespace.endswith(f".{reserved}"):
            raise violation(f"{field}[{key!r}]", f"the namespace {reserved} is reserved for the system")


def violation(field: str, wanted: str) -> InvalidArgument:
    return InvalidArgument(f"Violation in {field}: {wanted}.")
