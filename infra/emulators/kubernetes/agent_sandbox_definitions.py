"""The CustomResourceDefinitions of Agent Sandbox (kubernetes-sigs/agent-sandbox), v1beta1; of Pods, no schema."""

from typing import Any, Final

Schema = dict[str, Any]

GROUP: Final = "agents.x-k8s.io"
EXTENSIONS: Final = "extensions.agents.x-k8s.io"
VERSION: Final = "v1beta1"

_TEXT: Final[Schema] = {"type": "string"}
_WHOLE: Final[Schema] = {"type": "integer", "format": "int32"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_FREE: Final[Schema] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_TEXTS: Final[Schema] = {"type": "object", "additionalProperties": _TEXT}
_CONDITION: Final[Schema] = {
    "type": "object",
    "required": ["lastTransitionTime", "message", "reason", "status", "type"],
    "properties": {
        "lastTransitionTime": _TIME,
        "message": {"type": "string", "maxLength": 32768},
        "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
        "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "type": {"type": "string", "maxLength": 316},
    },
}


def _object(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _enum(*words: str, default: str = "") -> Schema:
    return {"type": "string", "enum": list(words), **({"default": default} if default else {})}


_CONDITIONS: Final = _list(_CONDITION)
_METADATA: Final = _object(labels=_TEXTS, annotations=_TEXTS)
_VOLUME_CLAIMS: Final = _list(
    _object("spec", metadata=_object(name=_TEXT, labels=_TEXTS, annotations=_TEXTS), spec=_FREE)
)
_BLUEPRINT: Final[dict[str, Schema]] = {
    "podTemplate": _object("spec", metadata=_METADATA, spec=_FREE),
    "volumeClaimTemplates": _VOLUME_CLAIMS,
    "service": {"type": "boolean"},
}
_REFERENCE: Final = _object("name", name=_TEXT)
_SANDBOX: Final = _object(
    "podTemplate",
    **_BLUEPRINT,
    operatingMode=_enum("Running", "Suspended", default="Running"),
    shutdownTime=_TIME,
    shutdownPolicy=_enum("Delete", "Retain", default="Retain"),
)
_SANDBOX_STATUS: Final = _object(
    conditions=_CONDITIONS,
    nodeName=_TEXT,
    podIPs=_list(_TEXT),
    selector=_TEXT,
    service=_TEXT,
    serviceFQDN=_TEXT,
)
_TEMPLATE: Final = _object(
    "podTemplate",
    **_BLUEPRINT,
    networkPolicy=_object(ingress=_list(_FREE), egress=_list(_FREE)),
    networkPolicyManagement=_enum("Managed", "Unmanaged", default="Managed"),
    envVarsInjectionPolicy=_enum("Allowed", "Overrides", "Disallowed", default="Disallowed"),
    volumeClaimTemplatesPolicy=_enum("Disallowed", "Allowed", "Overrides", default="Disallowed"),
)
_CLAIM: Final = _object(
    "warmPoolRef",
    warmPoolRef=_REFERENCE,
    additionalPodMetadata=_METADATA,
    env=_list(_object("name", "value", name=_TEXT, value=_TEXT, containerName=_TEXT)),
    lifecycle=_object(
        shutdownTime=_TIME,
        shutdownPolicy=_enum("Delete", "DeleteForeground", "Retain", default="Retain"),
        ttlSecondsAfterFinished={**_WHOLE, "minimum": 0},
    ),
    safeToEvict=_enum("on-completion", "true", "false"),
)
_CLAIM_STATUS: Final = _object(conditions=_CONDITIONS, sandbox=_object(name=_TEXT, podIPs=_list(_TEXT)))
_POOL: Final = _object(
    "sandboxTemplateRef",
    replicas={**_WHOLE, "minimum": 0, "default": 1},
    sandboxTemplateRef=_REFERENCE,
    updateStrategy=_object(type=_enum("Recreate", "OnReplenish", default="OnReplenish")),
)
_POOL_STATUS: Final = _object(replicas=_WHOLE, readyReplicas=_WHOLE, selector=_TEXT)


def _definition(
    group: str, kind: str, plural: str, short_name: str, spec: Schema, status: Schema | None, **subresources: Schema
) -> dict[str, Any]:
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": _object(
                "spec", apiVersion=_TEXT, kind=_TEXT, metadata={"type": "object"}, spec=spec, **_status(status)
            )
        },
    }
    if status is not None:
        version["subresources"] = {"status": {}, **subresources}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short_name],
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def _status(status: Schema | None) -> dict[str, Schema]:
    return {} if status is None else {"status": status}


DEFINITIONS: Final[tuple[dict[str, Any], ...]] = (
    _definition(GROUP, "Sandbox", "sandboxes", "sandbox", _SANDBOX, _SANDBOX_STATUS),
    _definition(EXTENSIONS, "SandboxTemplate", "sandboxtemplates", "sandboxtemplate", _TEMPLATE, None),
    _definition(EXTENSIONS, "SandboxClaim", "sandboxclaims", "sandboxclaim", _CLAIM, _CLAIM_STATUS),
    _definition(
        EXTENSIONS,
        "SandboxWarmPool",
        "sandboxwarmpools",
        "swp",
        _POOL,
        _POOL_STATUS,
        scale={
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
)
