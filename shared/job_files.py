"""What a job has in its session's bucket: the command for its runner, and what the runner wrote.

    .onmemos/jobs/<job>/command.json                 written before the job starts, removed when it is over
    .onmemos/jobs/<job>/<attempt>/attempt.json       at the attempt's beginning
    .onmemos/jobs/<job>/<attempt>/stdout-000000.log  parts of at most 1 MiB; the last one grows
    .onmemos/jobs/<job>/<attempt>/stderr-000000.log
    .onmemos/jobs/<job>/<attempt>/result.json        at the attempt's end

Attempts count from 0, parts too. Of a long stream the runner keeps the first part and the newest: numbers are missing.
"""

import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared import names
from shared.job_models import Job, JobOutput
from shared.models import Session

if TYPE_CHECKING:
    from shared.buckets import Buckets

SHOWN_BYTES = 1 << 20  # of each stream
MAX_RESULT_BYTES = 4096  # of a file that the job's own command could have written
MAX_ATTEMPT_DIGITS = 4
MOST_READ = 8  # parts of a stream; all of the runner's but the last have their 1 MiB
_PART = re.compile(rf"(\d{{1,{MAX_ATTEMPT_DIGITS}}})/(stdout|stderr)-(\d{{6,12}})\.log")
_SAYS = re.compile(rf"(\d{{1,{MAX_ATTEMPT_DIGITS}}})/(attempt|result)\.json")


@dataclass(frozen=True, slots=True)
class Result:
    """How an attempt ended: 124 for one whose time was up."""

    returncode: int
    timed_out: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """What there is of a job. `parts`: of its newest attempt, by stream, (number, object, bytes) in order.

    `result`: the object that says how that attempt ended, and its size. `attempts`: how many began; 0 if none did.
    """

    attempts: int = 0
    parts: dict[str, list[tuple[int, str, int]]] = field(default_factory=dict)
    result: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class JobFiles:
    """One job's files in a bucket. Every method may raise ProviderUnavailable and can be repeated."""

    buckets: "Buckets"
    bucket: str
    job_id: str

    async def write_command(self, session: Session, job: Job) -> None:
        """Say what to run, with which environment. It goes this way as Cloud Run limits variables and shows them."""
        spec = job.spec
        command = {
            "command": spec.line,
            "argv": spec.argv,
            "timeout_s": spec.timeout_s,
            "cwd": session.storage.mount_path,
            "env": {
                **session.env,
                "WORKSPACE_ID": session.id,
                "NAMESPACE": session.namespace,
                "USER": session.user,
                "BUCKET_NAME": self.bucket,
                **spec.env,
            },
        }
        await self.buckets.write(self.bucket, self._command, _once(json.dumps(command).encode()))

    async def forget_command(self) -> None:
        """Its environment may hold secrets, and the bucket may outlive the session."""
        await self.buckets.remove(self.bucket, self._command)

    async def listing(self) -> Listing:
        """What there is now."""
        folder = f"{names.job_folder(self.job_id)}/"
        found = await self.buckets.list(self.bucket, folder)
        parts: dict[int, dict[str, list[tuple[int, str, int]]]] = defaultdict(lambda: defaultdict(list))
        says: dict[int, dict[str, tuple[str, int]]] = defaultdict(dict)
        for name, size in found:
            below = name.removeprefix(folder)
            if part := _PART.fullmatch(below):
                parts[int(part[1])][part[2]].append((int(part[3]), name, size))
            elif file := _SAYS.fullmatch(below):
                says[int(file[1])][file[2]] = (name, size)
        newest = max((*parts, *says), default=None)
        if newest is None:
            return Listing()
        streams = {stream: sorted(of_stream) for stream, of_stream in parts[newest].items()}
        return Listing(newest + 1, streams, says[newest].get("result"))

    async def result(self, listing: Listing) -> Result | None:
        """How the newest attempt ended; None: it has not said."""
        if listing.result is None or listing.result[1] > MAX_RESULT_BYTES:
            return None
        try:
            found = json.loads(await self._read(listing.result[0], 0, MAX_RESULT_BYTES))
        except ValueError:
            return None
        if not isinstance(found, dict) or type(found.get("returncode")) is not int:
            return None
        return Result(found["returncode"], found.get("timed_out") is True)

    async def output(self, listing: Listing) -> JobOutput:
        """The newest of what the newest attempt wrote."""
        stdout, more_stdout = await self._tail(listing.parts.get("stdout", []))
        stderr, more_stderr = await self._tail(listing.parts.get("stderr", []))
        return JobOutput(stdout, stderr, more_stdout or more_stderr)

    @property
    def _command(self) -> str:
        return f"{names.job_folder(self.job_id)}/command.json"

    async def _tail(self, parts: list[tuple[int, str, int]]) -> tuple[bytes, bool]:
        """The last SHOWN_BYTES of what follows upon another without a gap, and whether there was more."""
        chunks: list[bytes] = []
        room = SHOWN_BYTES
        expected = parts[-1][0] if parts else -1
        for number, name, size in reversed(parts[-MOST_READ:]):
            if number != expected or room == 0:
                break
            wanted = min(size, room)
            chunks.append(await self._read(name, size - wanted, wanted) if wanted else b"")
            room -= wanted
            expected = number - 1 if wanted == size else -2
        return b"".join(reversed(chunks)), expected != -1

    async def _read(self, name: str, start: int, length: int) -> bytes:
        return b"".join([chunk async for chunk in self.buckets.read(self.bucket, name, start, length)])[:length]


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
