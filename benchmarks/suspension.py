"""How long a session with 100 MB of files takes to be suspended, and to run a command when it is resumed."""

import time
from statistics import median

from sdk.python import AsyncOnMemOSClient

FILES_MB = 100
TURNS = 5
SPEC = {"template": "python", "namespace": "bench", "user": "files", "ttl_minutes": 30}
# A hundred files of random bytes, so that nobody's compression flatters the figure.
FILL = f"for n in $(seq {FILES_MB}); do head -c 1000000 /dev/urandom > file-$n; done"
PLACES = ("cloud_run", "gke", "workstations")  # gke without a disk: its files go to the bucket, too


async def measure(client: AsyncOnMemOSClient) -> dict[str, float]:
    """<provider>_suspend_ms and _resume_ms: medians of TURNS, resuming to the end of the first command."""
    figures: dict[str, float] = {}
    for provider in PLACES:
        session = await client.create_session(SPEC, provider=provider)
        await client.execute_session(session["id"], FILL, timeout=120, check=True)
        suspended, resumed = [], []
        for _ in range(TURNS):
            began = time.perf_counter()
            await client.suspend_session(session["id"])
            between = time.perf_counter()
            await client.resume_session(session["id"])
            await client.execute_session(session["id"], f"test $(ls file-* | wc -l) = {FILES_MB}", check=True)
            suspended.append(between - began)
            resumed.append(time.perf_counter() - between)
        await client.delete_session(session["id"])
        figures[f"{provider}_suspend_ms"] = median(suspended) * 1000
        figures[f"{provider}_resume_ms"] = median(resumed) * 1000
    return figures
