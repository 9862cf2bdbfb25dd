"""What a request says about a new API key."""

import re
from typing import Any

from marshmallow import post_load

from shared.callers import Scope
from shared.fields import NAME, NAME_WANTED, Choice, Moment, Strict, Text, Words
from shared.keys import NewKey

MAX_KEY_NAMESPACES = 30  # Firestore's `in` takes 30 values: cloud.google.com/firestore/docs/query-data/queries#limits


class CreateKey(Strict):
    """The body of POST /v1/keys."""

    name = Text("1 to 100 characters", re.compile(r"(?=.*\S).{1,100}"), required=True, about="what it is called")
    scopes = Words(Choice(*Scope), len(Scope), load_default=[Scope.SESSIONS], about="what it may be used for")
    namespaces = Words(
        Text(NAME_WANTED, NAME), MAX_KEY_NAMESPACES, load_default=None, allow_none=True,
        about="the namespaces that it opens; null: all of its tenant's",
    )  # fmt: skip
    expires_at = Moment(load_default=None, allow_none=True, about="when it stops opening anything; null: never")
    tenant = Text(NAME_WANTED, NAME, load_default=None, allow_none=True, about="whose it is; null: the caller's own")

    @post_load
    def _model(self, data: dict[str, Any], **_: Any) -> NewKey:
        namespaces = None if data["namespaces"] is None else frozenset(data["namespaces"])
        return NewKey(data["name"], frozenset(data["scopes"]), namespaces, data["expires_at"], data["tenant"])
