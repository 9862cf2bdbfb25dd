"""What is asked and not kept: who am I, may I, a token for a service account; a Pod's binding and eviction."""

from datetime import UTC, datetime
from typing import Any

from infra.emulators.kubernetes.discovery import REVIEWS
from infra.emulators.kubernetes.identity import DEFAULT_S, ISSUER, LONGEST_S, SHORTEST_S, Tokens, User
from infra.emulators.kubernetes.kinds import Kind
from infra.emulators.kubernetes.moments import timestamp
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.requests import Target
from infra.emulators.kubernetes.statuses import BadRequest, Conflict, Invalid, NoSuchPath, invalid


def kind_of(found: Target) -> Kind | None:
    at = found.group, found.version, found.plural
    return next((kind for kind in REVIEWS if (kind.group, kind.version, kind.plural) == at), None)


def answered(kind: Kind, body: Object, user: User, tokens: Tokens) -> Object:
    """Everybody who is let in may do everything, as with a cluster-admin's role."""
    asked = {"metadata": {"creationTimestamp": None}, **body, "apiVersion": kind.api_version, "kind": kind.kind}
    asked.setdefault("spec", {})
    if kind.kind == "SelfSubjectAccessReview":
        asked["status"] = {"allowed": True, "reason": "the emulator lets every known caller do everything"}
    elif kind.kind == "SelfSubjectRulesReview":
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        rest = {"verbs": ["*"], "nonResourceURLs": ["*"]}
        asked["status"] = {"resourceRules": [everything], "nonResourceRules": [rest], "incomplete": False}
    elif kind.kind == "SelfSubjectReview":
        del asked["spec"]
        asked["status"] = {"userInfo": _told(user)}
    else:
        named = tokens.user_of(str(asked["spec"].get("token", "")))
        asked["status"] = {"authenticated": True, "user": _told(named)} if named else {"error": "invalid bearer token"}
    return asked


def _told(user: User) -> dict[str, Any]:
    told: dict[str, Any] = {"username": user.name, "groups": list(user.groups)}
    return {**told, "uid": user.uid} if user.uid else told


async def of_object(objects: Objects, kind: Kind, found: Target, body: Object, tokens: Tokens) -> Object:
    """A POST to a subresource that is no stream. Raises StatusError."""
    obj = objects.get(kind, found.namespace, found.name)
    if found.subresource == "token":
        return _token(found, obj, body, tokens)
    if found.subresource == "binding":
        return await _bind(objects, kind, obj, body)
    if found.subresource == "eviction":
        options = body.get("deleteOptions") or {}
        conditions = options.get("preconditions") or {}
        await objects.delete(
            kind,
            found.namespace,
            found.name,
            grace_s=options.get("gracePeriodSeconds"),
            uid=conditions.get("uid"),
            resource_version=conditions.get("resourceVersion"),
            dry_run=options.get("dryRun") == ["All"],
        )
        return _done()
    raise NoSuchPath


def _done() -> Object:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _token(found: Target, account: Object, body: Object, tokens: Tokens) -> Object:
    spec = body.get("spec") or {}
    lifetime = spec.get("expirationSeconds", DEFAULT_S)
    request = Kind("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest")
    if not isinstance(lifetime, int) or isinstance(lifetime, bool):
        field = "TokenRequestSpec.spec.expirationSeconds of type int64"
        raise BadRequest(f"json: cannot unmarshal string into Go struct field {field}")
    if lifetime < SHORTEST_S:
        fault = invalid("spec.expirationSeconds", lifetime, "may not specify a duration less than 10 minutes")
        raise Invalid(request, "", [fault])
    if lifetime > LONGEST_S:
        fault = invalid("spec.expirationSeconds", lifetime, "may not specify a duration larger than 2^32 seconds")
        raise Invalid(request, "", [fault])
    audiences = list(spec.get("audiences") or [ISSUER])
    token, end = tokens.issue(found.namespace, account, audiences, lifetime)
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {
            "name": found.name,
            "namespace": found.namespace,
            "creationTimestamp": timestamp(datetime.now(UTC)),
        },
        "spec": {**spec, "audiences": audiences, "expirationSeconds": lifetime},
        "status": {"token": token, "expirationTimestamp": timestamp(datetime.fromtimestamp(end, UTC))},
    }


async def _bind(objects: Objects, kind: Kind, pod: Object, body: Object) -> Object:
    node = (body.get("target") or {}).get("name", "")
    if pod.get("spec", {}).get("nodeName"):
        why = f'pod {pod["metadata"]["name"]} is already assigned to node "{pod["spec"]["nodeName"]}"'
        raise Conflict(kind, pod["metadata"]["name"], why)
    pod.setdefault("spec", {})["nodeName"] = node
    await objects.update(kind, pod, subresource="binding")
    return _done()
