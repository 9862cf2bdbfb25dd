"""What a request says about a new API key."""

import re
from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError, fields, post_load

from shared.callers import Scope
from shared.fields import NAME, NAME_WANTED, Choice, Strict, Text, Words, seen
from shared.keys import NewKey

MAX_KEY_NAMESPACES = 30  # Firestore's `in` takes 30 values: cloud.google.com/firestore/docs/query-data/queries#limits


class Timestamp(fields.Field[datetime]):
    """A moment, RFC 3339 with its offset from UTC."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> datetime:
        try:
            at = datetime.fromisoformat(value)
            if at.tzinfo is not None:
                return at.astimezone(UTC)
        except (TypeError, ValueError, OverflowError):  # overflows: a year before 1 or after 9999 in UTC
            pass
        raise ValidationError(f"got {seen(value)}, wanted a time with its offset, such as 2027-01-31T12:00:00Z")


class CreateKey(Strict):
    """The body of POST /v1/keys."""

    name = Text("1 to 100 characters", re.compile(r"(?=.*\S).{1,100}"), required=True)
    scopes = Words(Choice(*Scope), len(Scope), load_default=[Scope.SESSIONS])
    namespaces = Words(Text(NAME_WANTED, NAME), MAX_KEY_NAMESPACES, load_default=None, allow_none=True)
    expires_at = Timestamp(load_default=None, allow_none=True)
    tenant = Text(NAME_WANTED, NAME, load_default=None, allow_none=True)

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> NewKey:
        namespaces = None if data["namespaces"] is None else frozenset(data["namespaces"])
        return NewKey(data["name"], frozenset(data["scopes"]), namespaces, data["expires_at"], data["tenant"])
