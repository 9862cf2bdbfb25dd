"""Pages of a list that is ordered by name: a token names the last one seen, so changes between pages do no harm."""

import base64
import binascii
from collections.abc import Iterable
from typing import Any, TypeVar

from google.api_core.exceptions import InvalidArgument

R = TypeVar("R", bound=Any)

PAGE_SIZE = 1000  # at most, and when none is asked for


def page(names: list[str], size: int, token: str, request: str) -> tuple[list[str], str]:
    """One page of `names`, and the token of the next ("" on the last). Raises InvalidArgument about `request`."""
    if size < 0:
        raise InvalidArgument(f"Violation in {request}.page_size: must be 0 or more, got {size}.")
    try:
        after = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (UnicodeError, binascii.Error) as exc:
        raise InvalidArgument(f"Violation in {request}.page_token: not a token of this list.") from exc
    rest = sorted(name for name in names if name > after)
    wanted = min(size or PAGE_SIZE, PAGE_SIZE)
    chosen = rest[:wanted]
    more = len(rest) > wanted
    return chosen, base64.urlsafe_b64encode(chosen[-1].encode()).decode() if more else ""


def listed(resources: Iterable[R], request: Any) -> tuple[list[R], str]:
    """The page that a list request asks for, and the token of the next.

    Of deleted resources there are only those whose deletion is under way, and they are for who asks for them.
    """
    found = {resource.name: resource for resource in resources if request.show_deleted or not resource.delete_time}
    chosen, token = page(list(found), request.page_size, request.page_token, type(request).__name__)
    return [found[name] for name in chosen], token
