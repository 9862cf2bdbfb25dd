"""What functions-framework loads: every function by its name, nothing else."""

from functions.create_session import create_session
from functions.delete_session import delete_session
from functions.execute_session import execute_session
from functions.expire_session import expire_session
from functions.get_session import get_session
from functions.health import health
from functions.list_sessions import list_sessions
from functions.provision_session import provision_session
from functions.teardown_session import teardown_session
from shared.logs import configure

configure()

__all__ = [
    "create_session",
    "delete_session",
    "execute_session",
    "expire_session",
    "get_session",
    "health",
    "list_sessions",
    "provision_session",
    "teardown_session",
]
