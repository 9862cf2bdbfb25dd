"""A command's outcome as the JSON of the answer, piece by piece, so that a large one is never in memory twice. Pure."""

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

TIMED_OUT = 124  # as timeout(1)
NOT_EXECUTABLE = 126  # 126 and 127: POSIX shell, 2.8.2
NOT_FOUND = 127
SIGNALLED = 128  # plus the signal's number
PIECE_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Output:
    """What a stream carried, up to the limit; `truncated` when there was more."""

    data: bytes | bytearray = b""
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    stdout: Output
    stderr: Output
    returncode: int
    timed_out: bool
    duration_ms: float

    def json(self) -> Iterator[bytes]:
        """The answer's body; a small one is one piece."""
        facts = json.dumps(self.facts())
        pieces = self._strings()
        if len(self.stdout.data) + len(self.stderr.data) <= PIECE_BYTES:
            yield "".join([*pieces, facts[1:]]).encode()
            return
        for piece in pieces:
            yield piece.encode()
        yield facts[1:].encode()

    def facts(self) -> dict[str, Any]:
        """All of the answer but the streams."""
        return {
            "returncode": self.returncode,
            "success": self.returncode == 0,
            "timed_out": self.timed_out,
            "truncated": self.stdout.truncated or self.stderr.truncated,
            "duration_ms": round(self.duration_ms, 3),
        }

    def _strings(self) -> Iterator[str]:
        yield '{"stdout": "'
        yield from _escaped(self.stdout)
        yield '", "stderr": "'
        yield from _escaped(self.stderr)
        yield '", '


def text_of(output: Output) -> str:
    """What is not UTF-8 becomes U+FFFD; a character that the limit cut in two is left out."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(output.data, not output.truncated)


def _escaped(output: Output) -> Iterator[str]:
    """As `text_of`, as the inside of JSON strings."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    end = len(output.data)
    for start in range(0, end, PIECE_BYTES):
        last = start + PIECE_BYTES >= end
        text = decoder.decode(output.data[start : start + PIECE_BYTES], last and not output.truncated)
        yield json.dumps(text, ensure_ascii=False)[1:-1]
