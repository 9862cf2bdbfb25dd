"""SPDY/3.1 as far as kubectl's port-forward speaks it: frames to events, and answers to frames; no I/O.

The format: www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1. There is no flow control: neither the real
server nor its clients have any.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

LARGEST_FRAME: Final = 1 << 20
_LARGEST_HEADERS: Final = 1 << 16
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FIN: Final = 1
_REFUSED: Final = 3
# The names and values that header blocks are compressed with from the start (draft 3, 2.6.10.1): first each with its
# length, then the rest as it is.
_WORDS: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_REST: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    "Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec "
    "00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8"
    "charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY: Final = (
    b"".join(len(word).to_bytes(4, "big") + word.replace("_", " ").encode() for word in _WORDS.split()) + _REST.encode()
)


class ProtocolError(Exception):
    """The peer said something that is no SPDY."""


@dataclass(frozen=True, slots=True)
class Opened:
    stream: int
    headers: Mapping[str, str]
    ended: bool


@dataclass(frozen=True, slots=True)
class Data:
    """`ended`: nothing follows on this stream."""

    stream: int
    data: bytes
    ended: bool


@dataclass(frozen=True, slots=True)
class Reset:
    stream: int


@dataclass(frozen=True, slots=True)
class Ping:
    number: int


@dataclass(frozen=True, slots=True)
class GoneAway:
    pass


Event = Opened | Data | Reset | Ping | GoneAway


class Connection:
    """One side of a connection: header blocks depend on all those before them."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    def receive(self, data: bytes) -> Iterator[Event]:
        """What whole frames say. Raises ProtocolError."""
        self._received += data
        while len(self._received) >= 8:
            size = int.from_bytes(self._received[5:8], "big")
            if size > LARGEST_FRAME:
                raise ProtocolError(f"a frame of {size} bytes; wanted at most {LARGEST_FRAME}")
            if len(self._received) < 8 + size:
                return
            head, payload = bytes(self._received[:8]), bytes(self._received[8 : 8 + size])
            del self._received[: 8 + size]
            event = self._event(head, payload)
            if event is not None:
                yield event

    def open(self, stream: int, headers: Mapping[str, str], *, ended: bool = False) -> bytes:
        """SYN_STREAM; a client's streams have odd numbers that grow."""
        payload = stream.to_bytes(4, "big") + bytes(6) + self._block(headers)
        return _control(_SYN_STREAM, payload, _FIN if ended else 0)

    def reply(self, stream: int) -> bytes:
        return _control(_SYN_REPLY, stream.to_bytes(4, "big") + self._block({}))

    def _event(self, head: bytes, payload: bytes) -> Event | None:
        first, ended = int.from_bytes(head[:4], "big"), bool(head[4] & _FIN)
        if not first >> 31:
            return Data(first, payload, ended)
        version, kind = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != 3:
            raise ProtocolError(f"SPDY version {version}; wanted 3")
        if kind == _GOAWAY:
            return GoneAway()
        if kind not in (_SYN_STREAM, _RST_STREAM, _PING):
            return None  # settings, window updates: nothing that concerns us
        if len(payload) < 4:
            raise ProtocolError(f"a frame of kind {kind} with {len(payload)} bytes")
        number = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
        if kind == _PING:
            return Ping(int.from_bytes(payload[:4], "big"))
        if kind == _RST_STREAM:
            return Reset(number)
        return Opened(number, self._headers(payload[10:]), ended)

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, _LARGEST_HEADERS)
        except zlib.error as exc:
            raise ProtocolError(f"headers that cannot be decompressed: {exc}") from exc
        if self._inflate.unconsumed_tail:
            raise ProtocolError(f"headers of more than {_LARGEST_HEADERS} bytes")
        words: list[str] = []
        position = 4
        while position + 4 <= len(plain):
            size = int.from_bytes(plain[position : position + 4], "big")
            words.append(plain[position + 4 : position + 4 + size].decode("latin-1"))
            position += 4 + size
        return {name.lower(): value for name, value in zip(words[::2], words[1::2], strict=False)}

    def _block(self, headers: Mapping[str, str]) -> bytes:
        plain = len(headers).to_bytes(4, "big")
        for name, value in headers.items():
            for word in (name.lower().encode(), value.encode()):
                plain += len(word).to_bytes(4, "big") + word
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)


def data(stream: int, content: bytes, *, ended: bool = False) -> bytes:
    return stream.to_bytes(4, "big") + bytes((_FIN if ended else 0,)) + len(content).to_bytes(3, "big") + content


def pong(number: int) -> bytes:
    return _control(_PING, number.to_bytes(4, "big"))


def refuse(stream: int) -> bytes:
    return _control(_RST_STREAM, stream.to_bytes(4, "big") + _REFUSED.to_bytes(4, "big"))


def _control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return (0x80030000 | kind).to_bytes(4, "big") + bytes((flags,)) + len(payload).to_bytes(3, "big") + payload
