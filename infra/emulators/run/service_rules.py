"""What Cloud Run refuses about a service. Pure; what it refuses about any resource is next door."""

from google.cloud.run_v2 import types

from infra.emulators.run.container_rules import SERVICE_ENV, Surroundings
from infra.emulators.run.rules import (
    DNS_LABEL,
    check_account,
    check_annotations,
    check_description,
    check_duration,
    check_id,
    check_labels,
    check_only_container,
    violation,
)
from infra.emulators.run.volume_rules import check_volumes

SERVICE_ID_LIMIT = 49  # cloud.google.com/run/docs/reference/rest/v2/projects.locations.services/create
CONCURRENCY_LIMIT = 1000  # cloud.google.com/run/docs/about-concurrency
TIMEOUT_LIMIT_S = 3600  # cloud.google.com/run/docs/configuring/request-timeout
REVISION_NAME_LIMIT = 63

_Gen1 = types.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN1
_Gen2 = types.ExecutionEnvironment.EXECUTION_ENVIRONMENT_GEN2


def check_service_id(service_id: str, field: str) -> None:
    check_id(service_id, SERVICE_ID_LIMIT, field)


def check_service(service: types.Service, service_id: str, field: str) -> None:
    """`field` is the path of `service` in its request, such as CreateServiceRequest.service."""
    check_description(service.description, f"{field}.description")
    check_labels(service.labels, f"{field}.labels")
    check_annotations(service.annotations, f"{field}.annotations")
    if "template" not in service:
        raise violation(f"{field}.template", "required field not present")
    _check_scaling(service.scaling.min_instance_count, service.scaling.max_instance_count, f"{field}.scaling")
    _check_template(service.template, service_id, f"{field}.template")


def _check_template(template: types.RevisionTemplate, service_id: str, field: str) -> None:
    check_labels(template.labels, f"{field}.labels")
    check_annotations(template.annotations, f"{field}.annotations")
    revision = template.revision
    if revision and not (
        revision.startswith(f"{service_id}-") and DNS_LABEL.fullmatch(revision) and len(revision) <= REVISION_NAME_LIMIT
    ):
        raise violation(
            f"{field}.revision",
            f"must be prefixed by '{service_id}-', with only lowercase, digits, and hyphens, and at most "
            f"{REVISION_NAME_LIMIT} characters (got {revision!r})",
        )
    _check_scaling(template.scaling.min_instance_count, template.scaling.max_instance_count, f"{field}.scaling")
    timeout_s = template.timeout.total_seconds() if "timeout" in template else 0
    check_duration(timeout_s, TIMEOUT_LIMIT_S, f"{field}.timeout")
    concurrency = template.max_instance_request_concurrency
    if not 0 <= concurrency <= CONCURRENCY_LIMIT:
        raise violation(
            f"{field}.max_instance_request_concurrency",
            f"must be between 0 and {CONCURRENCY_LIMIT}, got {concurrency}",
        )
    check_account(template.service_account, f"{field}.service_account")
    check_volumes(template.volumes, f"{field}.volumes", gen1=template.execution_environment == _Gen1)
    around = Surroundings(
        volumes=template.volumes,
        gen2=template.execution_environment == _Gen2,
        reserved_env=SERVICE_ENV,
        whole_cpus=_why_whole_cpus(template),
    )
    check_only_container(template.containers, around, f"{field}.containers")


def _why_whole_cpus(template: types.RevisionTemplate) -> str:
    """cloud.google.com/run/docs/configuring/services/cpu: what less than one cpu asks for."""
    if template.max_instance_request_concurrency > 1:
        return "Total cpu < 1 is not supported with concurrency > 1."
    if template.execution_environment == _Gen2:
        return "Total cpu < 1 is not supported with gen2 execution environment."
    if not all(container.resources.cpu_idle for container in template.containers):
        return "Total cpu < 1 is not supported with cpu always allocated; set cpu_idle."
    return ""


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
