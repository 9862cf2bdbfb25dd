"""Python code as a command: written to a file of its own, run from there, and removed."""

from shared.errors import InvalidRequest
from shared.models import Command
from shared.schemas import PythonCode

TIMEOUT_S = 120.0
# The file is alone in its folder, which Python puts first on its path: nothing that lies about in the session takes a
# module's name, as with -I; yet what pip installed for the user is found. -E: no PYTHON* variable changes how it runs.
RUN = (
    'folder=$(mktemp -d) || exit 125; trap "rm -rf \\"$folder\\"" EXIT; trap "exit 143" TERM; '
    'cat >"$folder/main.py" && python3 -E -X utf8 "$folder/main.py" </dev/null'
)


def python_file(query: PythonCode, body: PythonCode | None) -> Command:
    """The command for code that stands in the query or in the body. Raises InvalidRequest: in neither, or in both."""
    given = [one.code for one in (query, body) if one is not None and one.code is not None]
    if len(given) != 1:
        got = "both of the query and the body" if given else "neither of the query and the body"
        raise InvalidRequest.field("code", f"got it in {got}, wanted it in exactly one")
    times = [one.timeout_s for one in (body, query) if one is not None and one.timeout_s is not None]
    return Command(argv=("/bin/sh", "-c", RUN), stdin=given[0], timeout_s=times[0] if times else TIMEOUT_S)
