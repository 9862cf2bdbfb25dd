"""What functions-framework loads: every function by its name, nothing else."""

from functions.cancel_job import cancel_job
from functions.connect_session import connect_session
from functions.create_job import create_job
from functions.create_key import create_key
from functions.create_session import create_session
from functions.create_workspace import create_workspace
from functions.delete_session import delete_session
from functions.delete_workspace import delete_workspace
from functions.execute_session import execute_session
from functions.execute_workspace import execute_workspace
from functions.expire_session import expire_session
from functions.get_job import get_job
from functions.get_session import get_session
from functions.get_workspace import get_workspace
from functions.health import health
from functions.list_jobs import list_jobs
from functions.list_keys import list_keys
from functions.list_sessions import list_sessions
from functions.list_templates import list_templates
from functions.list_workspaces import list_workspaces
from functions.move_session import move_session
from functions.plan_session import plan_session
from functions.provision_session import provision_session
from functions.resume_session import resume_session
from functions.revoke_key import revoke_key
from functions.run_python import run_python
from functions.run_shell import run_shell
from functions.stop_session import stop_session
from functions.suspend_session import suspend_session
from functions.teardown_session import teardown_session
from functions.transfer_session import transfer_session
from functions.update_session import update_session
from shared.logs import configure

configure()

__all__ = [
    "cancel_job",
    "connect_session",
    "create_job",
    "create_key",
    "create_session",
    "create_workspace",
    "delete_session",
    "delete_workspace",
    "execute_session",
    "execute_workspace",
    "expire_session",
    "get_job",
    "get_session",
    "get_workspace",
    "health",
    "list_jobs",
    "list_keys",
    "list_sessions",
    "list_templates",
    "list_workspaces",
    "move_session",
    "plan_session",
    "provision_session",
    "resume_session",
    "revoke_key",
    "run_python",
    "run_shell",
    "stop_session",
    "suspend_session",
    "teardown_session",
    "transfer_session",
    "update_session",
]
