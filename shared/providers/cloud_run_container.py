"""What a session asks of Cloud Run, whatever kind of resource it becomes: its container, volumes and network."""

from google.cloud import run_v2

from shared.models import Session
from shared.providers.cloud_run_api import CloudRunSettings

AGENT_PORT = 8080
USER_ID = 1000  # of the session's user, in the images
# gcsfuse's: a bucket is root's otherwise, and a folder that nobody made as an object is not seen.
# cloud.google.com/run/docs/configuring/services/cloud-storage-volume-mounts#mount-options
GCSFUSE_OPTIONS = ("implicit-dirs", f"uid={USER_ID}", f"gid={USER_ID}")


def agent_container(session: Session, env: dict[str, str]) -> run_v2.Container:
    """The workspace agent in the session's image, ready when its /health says so."""
    return run_v2.Container(
        image=session.image,
        env=[run_v2.EnvVar(name=name, value=value) for name, value in sorted(env.items())],
        ports=[run_v2.ContainerPort(container_port=AGENT_PORT)],
        resources=run_v2.ResourceRequirements(
            limits=limits(session),
            cpu_idle=False,  # commands run between requests too
        ),
        volume_mounts=mounts(session),
        startup_probe=run_v2.Probe(
            http_get=run_v2.HTTPGetAction(path="/health", port=AGENT_PORT),
            period_seconds=1,
            timeout_seconds=1,
            failure_threshold=120,
        ),
    )


def limits(session: Session) -> dict[str, str]:
    return {"cpu": f"{session.resources.cpu:g}", "memory": f"{session.resources.memory_bytes >> 20}Mi"}


def mounts(session: Session) -> list[run_v2.VolumeMount]:
    """Where `volumes` are."""
    found = [run_v2.VolumeMount(name="bucket", mount_path=session.storage.mount_path)]
    share = session.storage.filestore
    if share is not None:
        found.append(run_v2.VolumeMount(name="filestore", mount_path=share.mount_path))
    return found


def volumes(session: Session, bucket: str) -> list[run_v2.Volume]:
    """All that the session has mounted."""
    source = run_v2.GCSVolumeSource(bucket=bucket, mount_options=list(GCSFUSE_OPTIONS))
    found = [run_v2.Volume(name="bucket", gcs=source)]
    share = session.storage.filestore
    if share is not None:
        nfs = run_v2.NFSVolumeSource(server=share.ip, path=f"/{share.share}")
        found.append(run_v2.Volume(name="filestore", nfs=nfs))
    return found


def vpc_access(session: Session, settings: CloudRunSettings) -> run_v2.VpcAccess | None:
    """No way out for a closed session, and a way to its share for one that has one; None: the internet, as ever."""
    if not session.egress:
        return _vpc(settings.closed_subnetwork, run_v2.VpcAccess.VpcEgress.ALL_TRAFFIC)
    if session.storage.filestore is not None:
        return _vpc(settings.filestore_subnetwork, run_v2.VpcAccess.VpcEgress.PRIVATE_RANGES_ONLY)
    return None


def _vpc(subnetwork: str, egress: int) -> run_v2.VpcAccess:
    interface = run_v2.VpcAccess.NetworkInterface(subnetwork=subnetwork)
    return run_v2.VpcAccess(egress=egress, network_interfaces=[interface])
