"""Names, labels and annotations: the syntax of metadata, with the words in which the real server refuses it."""

import re
from collections.abc import Iterator
from typing import Any, Final

from infra.emulators.kubernetes.kinds import NAMESPACES, SERVICES, Kind
from infra.emulators.kubernetes.statuses import FieldError, invalid, required, too_long

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_NAME_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", re.ASCII)
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", re.ASCII)
_LABEL_MOST: Final = 63
_SUBDOMAIN_MOST: Final = 253
ANNOTATIONS_MOST_BYTES: Final = 256 * 1024

LABEL_RULE: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
LABEL_1035_RULE: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_NAME_PART_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


def label_faults(text: str) -> list[str]:
    """Why it is no RFC 1123 label."""
    return _faults(text, _LABEL, LABEL_RULE, _LABEL_MOST)


def subdomain_faults(text: str) -> list[str]:
    return _faults(text, _SUBDOMAIN, SUBDOMAIN_RULE, _SUBDOMAIN_MOST)


def label_1035_faults(text: str) -> list[str]:
    return _faults(text, _LABEL_1035, LABEL_1035_RULE, _LABEL_MOST)


def _faults(text: str, pattern: re.Pattern[str], rule: str, most: int) -> list[str]:
    faults = [] if len(text.encode()) <= most else [f"must be no more than {most} bytes"]
    return faults if pattern.fullmatch(text) else [*faults, rule]


def label_value_faults(text: str) -> list[str]:
    return _faults(text, _VALUE, _VALUE_RULE, _LABEL_MOST)


def qualified_name_faults(text: str) -> list[str]:
    """Of the keys of labels and annotations, of finalizers, of extended resources."""
    prefix, slash, name = text.rpartition("/")
    faults = []
    if "/" in prefix:
        return [
            "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
            "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')"
        ]
    if slash:
        if not prefix:
            faults.append("prefix part must be non-empty")
        else:
            faults += [f"prefix part {fault}" for fault in subdomain_faults(prefix)]
    if not name:
        faults.append("name part must be non-empty")
    elif len(name) > _LABEL_MOST:
        faults.append(f"name part must be no more than {_LABEL_MOST} bytes")
    if not _NAME_PART.fullmatch(name):
        faults.append(_NAME_PART_RULE)
    return faults


def name_faults(kind: Kind, name: str) -> list[str]:
    """Why an object of the kind cannot have that name."""
    if kind.resource == NAMESPACES.resource:
        return label_faults(name)
    if kind.resource == SERVICES.resource:
        return label_1035_faults(name)
    return subdomain_faults(name)


def metadata_errors(kind: Kind, metadata: dict[str, Any]) -> Iterator[FieldError]:
    name = metadata.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    else:
        for fault in name_faults(kind, name):
            yield invalid("metadata.name", name, fault)
    yield from label_errors(metadata.get("labels") or {}, "metadata.labels")
    annotations: dict[str, str] = metadata.get("annotations") or {}
    for key in annotations:
        for fault in qualified_name_faults(key.lower()):
            yield invalid("metadata.annotations", key, fault)
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > ANNOTATIONS_MOST_BYTES:
        yield too_long("metadata.annotations", ANNOTATIONS_MOST_BYTES)
    yield from _owner_errors(metadata.get("ownerReferences") or ())
    for finalizer in metadata.get("finalizers") or ():
        faults = qualified_name_faults(finalizer)
        for fault in faults:
            yield invalid("metadata.finalizers", finalizer, fault)


def label_errors(labels: dict[str, str], where: str) -> Iterator[FieldError]:
    for key, value in labels.items():
        for fault in qualified_name_faults(key):
            yield invalid(where, key, fault)
        for fault in label_value_faults(value):
            yield invalid(where, value, fault)


def _owner_errors(owners: Any) -> Iterator[FieldError]:
    controllers = 0
    for index, owner in enumerate(owners):
        where = f"metadata.ownerReferences[{index}]"
        for field, what in (("apiVersion", "version"), ("kind", "kind"), ("name", "name"), ("uid", "uid")):
            if not owner.get(field):
                yield invalid(f"{where}.{field}", "", f"{what} must not be empty")
        controllers += bool(owner.get("controller"))
        if controllers > 1:
            yield invalid(
                "metadata.ownerReferences",
                owner.get("name", ""),
                "Only one reference can have Controller set to true. "
                f'Found "true" in references for {owner.get("name", "")}',
            )
