"""How a session's workspace comes up: its bucket, its environment, the workspace, its first answer, its files."""

from dataclasses import dataclass, replace

from shared.liveness import Liveness
from shared.models import Session
from shared.ports import Ports
from shared.snapshots import Snapshots

# How long an agent refuses commands before its files begin to come: clients that know the address are faster than we.
AWAITS_FILES_S = 60
FIRST_ANSWER_S = 60.0  # the platform says that a workspace is ready; its address may need a moment more


@dataclass(frozen=True, slots=True)
class Launch:
    """Starts workspaces; what a former try began is found and gone on with."""

    ports: Ports

    async def start(self, session: Session) -> Session:
        """The session with the address, details and boot of its workspace, which runs and has the session's files.

        Nothing is written. Raises ProvisioningFailed, QuotaExceeded, and ProviderUnavailable, WorkspaceUnreachable or
        WorkspaceLost, after which it can be tried again.
        """
        bucket = session.storage.bucket or await self.ports.buckets.ensure(session.id, session.tenant)
        imaged = session if session.image else replace(session, image=self._image_of(session))
        provider = self.ports.provider(session.provider)
        env = self._environment(session, bucket)
        workspace = await provider.create(imaged, env, bucket)
        ready = replace(session, url=workspace.url, details={**session.details, **workspace.details})
        if workspace.adopt is not None:
            await self.ports.agents.adopt(ready, workspace.adopt, env)
        boot_id = await Liveness(self.ports).first_boot(ready, FIRST_ANSWER_S)
        if session.snapshot is not None:
            await Snapshots(self.ports).load(ready, session.snapshot)
        boots = session.boots + (session.boot_id not in {None, boot_id})
        return replace(ready, boot_id=boot_id, boots=boots)

    def _image_of(self, session: Session) -> str:
        """For documents of before images were recorded."""
        return next((one.image for one in self.ports.templates if one.name == session.template), "")

    def _environment(self, session: Session, bucket: str) -> dict[str, str]:
        return {
            **session.env,
            "WORKSPACE_ID": session.id,
            "NAMESPACE": session.namespace,
            "USER": session.user,
            "BUCKET_NAME": bucket,
            "ONMEMOS_TICKET_KEYS": self.ports.tickets.public_keys(),
            **({"ONMEMOS_AGENT_AWAITS_FILES_S": str(AWAITS_FILES_S)} if session.snapshot is not None else {}),
        }
