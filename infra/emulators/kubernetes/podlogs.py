"""What containers print, in files of the container runtime's format: `TIME STREAM P|F TEXT`, one line each.

A file that has become too large is put aside; as on a real node, only the newest is read.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from infra.emulators.kubernetes.log_options import LogOptions, parse_rfc3339_ns

LARGEST_BYTES: Final = 10 << 20  # containerLogMaxSize: kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1
LONGEST_LINE: Final = 16 << 10  # what the container runtime cuts lines at
FOLLOWER_BYTES: Final = 4 << 20  # that a follower may lag behind; then it is let go
_CHUNK: Final = 1 << 18


class Follower:
    """Raw output from now on, for one who is attached."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._over = False

    def add(self, stream: str, data: bytes) -> None:
        if self._over:
            return
        self._waiting.append((stream, data))
        self._size += len(data)
        self._over = self._size > FOLLOWER_BYTES
        self._news.set()

    def end(self) -> None:
        self._over = True
        self._news.set()

    async def next(self) -> tuple[str, bytes] | None:
        """(stream, data); None: the container ended, or all this was read too slowly."""
        while not self._waiting:
            if self._over:
                return None
            self._news.clear()
            await self._news.wait()
        stream, data = self._waiting.popleft()
        self._size -= len(data)
        return stream, data


class LogFile:
    """A container's output, as sandbox.spec.Sink. Appends to `path`; `end` says that nothing comes any more."""

    def __init__(
        self, path: Path, *, largest_bytes: int = LARGEST_BYTES, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.ended = False
        self.rotations = 0
        self._largest = largest_bytes
        self._clock = clock_ns
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size
        self._followers: set[Follower] = set()
        self._news: set[asyncio.Event] = set()

    def add(self, stream: str, data: bytes) -> None:
        if self.ended:
            return
        head = f"{_rfc3339(self._clock())} {stream} ".encode()
        lines = data.split(b"\n")
        rest = lines.pop()
        written = b"".join([*(_record(head, line, b"F") for line in lines), _record(head, rest, b"P") if rest else b""])
        if self._size and self._size + len(written) > self._largest:
            self._rotate()
        self._size += self._file.write(written)
        for follower in self._followers:
            follower.add(stream, data)
        self._tell()

    def end(self) -> None:
        """Idempotent."""
        if self.ended:
            return
        self.ended = True
        self._file.close()
        for follower in self._followers:
            follower.end()
        self._tell()

    def follow(self) -> Follower:
        follower = Follower()
        if self.ended:
            follower.end()
        self._followers.add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        self._followers.discard(follower)

    async def changed(self, seen: tuple[int, int]) -> None:
        """Until there is more than `seen` (rotations, bytes), or no more will come."""
        news = asyncio.Event()
        self._news.add(news)
        try:
            while (self.rotations, self._size) == seen and not self.ended:
                news.clear()
                await news.wait()
        finally:
            self._news.discard(news)

    def _rotate(self) -> None:
        """At every moment there is a file of this name: readers open it in threads of their own."""
        self._file.close()
        aside, newest = self.path.with_suffix(".1"), self.path.with_suffix(".new")
        aside.unlink(missing_ok=True)
        aside.hardlink_to(self.path)
        self._file = newest.open("wb", buffering=0)
        newest.replace(self.path)
        self._size = 0
        self.rotations += 1

    def _tell(self) -> None:
        for news in self._news:
            news.set()


async def read_log(path: Path, options: LogOptions, live: LogFile | None) -> AsyncGenerator[bytes, None]:
    """The log as `kubectl logs` shows it. `live` is who writes it, if anybody still does."""
    left = options.limit_bytes
    lines = _Lines(options)
    async with aclosing(_chunks(path, options, live)) as chunks:
        async for chunk in chunks:
            text = lines.shown(chunk)
            if left is not None:
                text = text[:left]
                left -= len(text)
            if text:
                yield text
            if left == 0:
                return


async def _chunks(path: Path, options: LogOptions, live: LogFile | None) -> AsyncGenerator[bytes, None]:
    """Whole records."""
    rotations = live.rotations if live else 0  # before the file is opened: it may be a newer one, and never an older
    file = await asyncio.to_thread(_opened, path)
    if file is None:
        return
    try:
        if options.tail is not None:
            await asyncio.to_thread(_seek_tail, file, options.tail)
        while True:
            over = live is None or live.ended or live.rotations != rotations
            data = await asyncio.to_thread(_read_records, file)
            if data:
                yield data
            elif not options.follow or live is None or (over and live.rotations == rotations):
                return
            elif over:
                rotations = live.rotations
                file = await asyncio.to_thread(_newest, file, path)
            else:
                await live.changed((rotations, file.tell()))
    finally:
        if file is not None:
            file.close()


class _Lines:
    """Records become text; what ends in the middle of a line goes on in the next record."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._within: set[str] = set()

    def shown(self, records: bytes) -> bytes:
        options = self._options
        text = bytearray()
        for record in records.splitlines(keepends=False) if b"\r" not in records else records.split(b"\n"):
            parts = record.split(b" ", 3)
            if len(parts) < 4:
                continue
            moment, stream, tag, content = parts[0].decode(), parts[1].decode(), parts[2], parts[3]
            if options.stream and options.stream != stream:
                continue
            if options.since is not None and parse_rfc3339_ns(moment) < options.since:
                continue
            if options.timestamps and stream not in self._within:
                text += moment.encode() + b" "
            text += content
            if tag == b"F":
                text += b"\n"
                self._within.discard(stream)
            else:
                self._within.add(stream)
        return bytes(text)


def _record(head: bytes, line: bytes, tag: bytes) -> bytes:
    pieces = [line[start : start + LONGEST_LINE] for start in range(0, len(line), LONGEST_LINE)] or [b""]
    return b"".join(
        head + (tag if piece is pieces[-1] else b"P") + b" " + piece.replace(b"\n", b"") + b"\n" for piece in pieces
    )


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _newest(file: BinaryIO, path: Path) -> BinaryIO:
    """The file of that name now; `file` itself, where it is that."""
    newest = path.open("rb")
    if os.path.samestat(os.fstat(newest.fileno()), os.fstat(file.fileno())):
        newest.close()
        return file
    file.close()
    return newest


def _read_records(file: BinaryIO) -> bytes:
    """Up to the last whole record; the rest is read again."""
    start = file.tell()
    data = file.read(_CHUNK)
    whole = data[: data.rfind(b"\n") + 1]
    file.seek(start + len(whole))
    return whole


def _seek_tail(file: BinaryIO, lines: int) -> None:
    """To the beginning of the last `lines` lines, of which each may be several records."""
    starts: deque[int] = deque([0], maxlen=max(lines, 0) + 1)
    position = 0
    for record in file:
        position += len(record)
        if record.split(b" ", 3)[2:3] == [b"F"]:
            starts.append(position)
    if starts[-1] == position:  # no line has begun there
        starts.pop()
    file.seek(position if lines <= 0 or not starts else starts[-min(lines, len(starts))])


def _rfc3339(moment_ns: int) -> str:
    seconds, rest = divmod(moment_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
