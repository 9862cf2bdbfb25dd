"""What a client of the relay shows to be let in, and what of it the workspace gets to see: never a key.

A key or a ticket, each in a header or, for browsers' WebSockets, in the query. A key goes before a ticket, a header
before the query. Of several only the first counts, and no other is passed on.
"""

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

Header = tuple[bytes, bytes]

TICKET_HEADER = b"x-onmemos-ticket"
KEY_QUERY, TICKET_QUERY = b"api_key", b"ticket"

# Host names the relay, a cookie or Referer may hold what is the relay's, and Authorization may hold Google's token.
WITHHELD = frozenset(
    {b"host", b"x-api-key", TICKET_HEADER, b"authorization", b"x-forwarded-authorization", b"cookie", b"referer"}
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What came: `key` or `ticket`, or neither. `headers` and `query` are for the workspace; a ticket is among them."""

    key: str
    ticket: str
    headers: tuple[Header, ...]
    query: bytes

    def with_ticket(self, token: str) -> "Credentials":
        """The same with a ticket of our own, in the header."""
        return Credentials(self.key, token, (*self.headers, (TICKET_HEADER, token.encode())), self.query)


def credentials(scope: Scope) -> Credentials:
    """Those of an ASGI request or WebSocket."""
    given = {name: value.strip() for name, value in reversed(scope["headers"])}
    parts: list[bytes] = scope["query_string"].split(b"&")
    rest = b"&".join(part for part in parts if _name(part) not in {KEY_QUERY, TICKET_QUERY})
    headers = tuple((name, value) for name, value in scope["headers"] if name not in WITHHELD)
    if key := given.get(b"x-api-key") or _first(parts, KEY_QUERY)[1]:
        return Credentials(key.decode("latin-1"), "", headers, rest)
    if ticket := given.get(TICKET_HEADER) or _bearer(given.get(b"authorization", b"")):
        return Credentials("", ticket.decode("latin-1"), (*headers, (TICKET_HEADER, ticket)), rest)
    as_it_came, ticket = _first(parts, TICKET_QUERY)
    query = b"&".join(part for part in (rest, as_it_came) if part)
    return Credentials("", ticket.decode("latin-1"), headers, query)


def _bearer(authorization: bytes) -> bytes:
    scheme, _, token = authorization.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _first(parts: list[bytes], name: bytes) -> tuple[bytes, bytes]:
    """The first part of a query that gives the name a value: the part as it came, and the value."""
    for part in parts:
        value = _decoded(part.partition(b"=")[2])
        if value and _name(part) == name:
            return part, value
    return b"", b""


def _name(part: bytes) -> bytes:
    return _decoded(part.partition(b"=")[0])


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))
