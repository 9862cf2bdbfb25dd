"""What Cloud Run refuses about a service: names, labels, annotations, scaling, volumes. Pure; containers are next door.

Every check raises google.api_core's InvalidArgument (INVALID_ARGUMENT, HTTP 400) with the path of the field, or
MethodNotImplemented for what the real service accepts and this emulator does not have.
"""

import re
from collections.abc import Mapping

from google.api_core.exceptions import InvalidArgument, MethodNotImplemented
from google.cloud.run_v2 import types

from infra.emulators.run.container_rules import check_container

SERVICE_ID_LIMIT = 49  # cloud.google.com/run/docs/reference/rest/v2/projects.locations.services/create
DESCRIPTION_LIMIT = 512  # characters; Service.description
LABELS_LIMIT = 64  # cloud.google.com/resource-manager/docs/creating-managing-labels#requirements
LABEL_LIMIT = 63  # characters of a key, and of a value
ANNOTATIONS_LIMIT = 256 * 1024  # bytes of all keys and values: Kubernetes' rule, which Service.annotations follows
CONCURRENCY_LIMIT = 1000  # cloud.google.com/run/docs/about-concurrency
TIMEOUT_LIMIT_S = 3600  # cloud.google.com/run/docs/configuring/request-timeout
REVISION_NAME_LIMIT = 63
# Service.labels and Service.annotations: namespaces that the v2 API refuses.
RESERVED_NAMESPACES = (
    "run.googleapis.com",
    "cloud.googleapis.com",
    "serving.knative.dev",
    "autoscaling.knative.dev",
)

_DNS_LABEL = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ANNOTATION = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_ACCOUNT = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_SERVER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


def check_service_id(service_id: str, field: str) -> None:
    if len(service_id) > SERVICE_ID_LIMIT or _DNS_LABEL.fullmatch(service_id) is None:
        raise violation(
            field,
            "only lowercase, digits, and hyphens; must begin with letter, and cannot end with hyphen; "
            f"must be less than {SERVICE_ID_LIMIT + 1} characters (got {service_id!r}, {len(service_id)} characters)",
        )


def check_service(service: types.Service, service_id: str, field: str) -> None:
    """`field` is the path of `service` in its request, such as CreateServiceRequest.service."""
    if len(service.description) > DESCRIPTION_LIMIT:
        raise violation(
            f"{field}.description", f"at most {DESCRIPTION_LIMIT} characters, got {len(service.description)}"
        )
    _check_labels(service.labels, f"{field}.labels")
    _check_annotations(service.annotations, f"{field}.annotations")
    if "template" not in service:
        raise violation(f"{field}.template", "required field not present")
    _check_scaling(service.scaling.min_instance_count, service.scaling.max_instance_count, f"{field}.scaling")
    _check_template(service.template, service_id, f"{field}.template")


def _check_template(template: types.RevisionTemplate, service_id: str, field: str) -> None:
    _check_labels(template.labels, f"{field}.labels")
    _check_annotations(template.annotations, f"{field}.annotations")
    revision = template.revision
    if revision and not (
        revision.startswith(f"{service_id}-")
        and _DNS_LABEL.fullmatch(revision)
        and len(revision) <= REVISION_NAME_LIMIT
    ):
        raise violation(
            f"{field}.revision",
            f"must be prefixed by '{service_id}-', with only lowercase, digits, and hyphens, and at most "
            f"{REVISION_NAME_LIMIT} characters (got {revision!r})",
        )
    _check_scaling(template.scaling.min_instance_count, template.scaling.max_instance_count, f"{field}.scaling")
    timeout_s = template.timeout.total_seconds() if "timeout" in template else 0
    if not 0 <= timeout_s <= TIMEOUT_LIMIT_S:
        raise violation(
            f"{field}.timeout", f"must be between 0 and {TIMEOUT_LIMIT_S} seconds, got {timeout_s:g} seconds"
        )
    concurrency = template.max_instance_request_concurrency
    if not 0 <= concurrency <= CONCURRENCY_LIMIT:
        raise violation(
            f"{field}.max_instance_request_concurrency",
            f"must be between 0 and {CONCURRENCY_LIMIT}, got {concurrency}",
        )
    if template.service_account and _ACCOUNT.fullmatch(template.service_account) is None:
        raise violation(
            f"{field}.service_account", f"must be the email of a service account, got {template.service_account!r}"
        )
    _check_volumes(template, f"{field}.volumes")
    if not template.containers:
        raise violation(f"{field}.containers", "required field not present")
    if len(template.containers) > 1:
        raise MethodNotImplemented(f"{field}.containers: the emulator runs one container, without sidecars")
    check_container(template, f"{field}.containers[0]")


def _check_labels(labels: Mapping[str, str], field: str) -> None:
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


def _check_annotations(annotations: Mapping[str, str], field: str) -> None:
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


def _check_scaling(minimum: int, maximum: int, field: str) -> None:
    """A maximum of 0 stands for Cloud Run's own default (100)."""
    for name, count in (("min_instance_count", minimum), ("max_instance_count", maximum)):
        if count < 0:
            raise violation(f"{field}.{name}", f"must be greater than or equal to 0, got {count}")
    if maximum and minimum > maximum:
        raise violation(
            f"{field}.min_instance_count",
            f"must be less than or equal to max_instance_count ({maximum}), got {minimum}",
        )


def _check_volumes(template: types.RevisionTemplate, field: str) -> None:
    seen: set[str] = set()
    for index, volume in enumerate(template.volumes):
        path = f"{field}[{index}]"
        if _DNS_LABEL.fullmatch(volume.name) is None:
            raise violation(
                f"{path}.name", f"must be a lowercase name of letters, digits and hyphens, got {volume.name!r}"
            )
        if volume.name in seen:
            raise violation(f"{path}.name", f"duplicate volume name {volume.name!r}")
        seen.add(volume.name)
        kind = types.Volume.pb(volume).WhichOneof("volume_type")
        if kind is None:
            raise violation(path, "a volume needs a type such as gcs or empty_dir")
        if kind not in {"gcs", "nfs", "empty_dir"}:
            raise MethodNotImplemented(f"{path}.{kind}: the emulator mounts gcs, nfs and empty_dir volumes")
        if kind == "gcs":
            _check_gcs(template, volume, f"{path}.gcs")
        if kind == "nfs":
            _check_nfs(template, volume, f"{path}.nfs")


def _check_gcs(template: types.RevisionTemplate, volume: types.Volume, path: str) -> None:
    if _BUCKET.fullmatch(volume.gcs.bucket) is None or ".." in volume.gcs.bucket:
        raise violation(f"{path}.bucket", f"must be the name of a bucket, got {volume.gcs.bucket!r}")
    if template.execution_environment == types.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN1:
        # cloud.google.com/run/docs/configuring/services/cloud-storage-volume-mounts#limitations
        raise violation(path, "Cloud Storage volumes need the second generation execution environment")
    for option in volume.gcs.mount_options:
        if option.startswith("-"):
            raise violation(f"{path}.mount_options", f"options come without the leading --, got {option!r}")
        if option.startswith("only-dir=") and ".." in option.removeprefix("only-dir=").split("/"):
            raise violation(f"{path}.mount_options", f"only-dir must stay inside the bucket, got {option!r}")


def _check_nfs(template: types.RevisionTemplate, volume: types.Volume, path: str) -> None:
    if _SERVER.fullmatch(volume.nfs.server) is None:
        raise violation(f"{path}.server", f"must be a host name or an IP address, got {volume.nfs.server!r}")
    if not volume.nfs.path.startswith("/") or ".." in volume.nfs.path.split("/") or "\0" in volume.nfs.path:
        raise violation(f"{path}.path", f"must be an absolute path that the server exports, got {volume.nfs.path!r}")
    if template.execution_environment == types.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN1:
        # cloud.google.com/run/docs/configuring/services/nfs-volume-mounts#limitations
        raise violation(path, "NFS volumes need the second generation execution environment")


def violation(field: str, wanted: str) -> InvalidArgument:
    return InvalidArgument(f"Violation in {field}: {wanted}.")
