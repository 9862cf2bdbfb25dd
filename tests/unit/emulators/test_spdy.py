"""SPDY frames: what one side says, the other understands; what is no SPDY is refused."""

import zlib

import pytest

from infra.emulators.kubernetes import spdy


def test_the_dictionary_is_the_protocols() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


def test_headers_of_later_streams_depend_on_those_before() -> None:
    there, here = spdy.Connection(), spdy.Connection()
    for stream in (1, 3, 5):
        headers = {"streamType": "data", "port": "8080", "requestID": str(stream)}
        events = list(here.receive(there.open(stream, headers)))
        wanted = {"streamtype": "data", "port": "8080", "requestid": str(stream)}
        assert events == [spdy.Opened(stream, wanted, ended=False)]


def test_frames_are_understood_however_they_arrive() -> None:
    there, here = spdy.Connection(), spdy.Connection()
    sent = there.open(1, {"a": "b"}, ended=True) + spdy.data(1, b"x" * 5) + spdy.data(1, b"", ended=True)
    sent += spdy.pong(7) + spdy.refuse(1)
    events = [event for byte in sent for event in here.receive(bytes((byte,)))]
    assert events == [
        spdy.Opened(1, {"a": "b"}, ended=True),
        spdy.Data(1, b"xxxxx", ended=False),
        spdy.Data(1, b"", ended=True),
        spdy.Ping(7),
        spdy.Reset(1),
    ]


def test_what_does_not_concern_us_is_passed_over() -> None:
    settings = bytes.fromhex("8003000400000004") + bytes(4)
    assert list(spdy.Connection().receive(settings + spdy.data(1, b"x"))) == [spdy.Data(1, b"x", ended=False)]


@pytest.mark.parametrize(
    "sent",
    [
        bytes.fromhex("8002000100000004") + bytes(4),  # version 2
        bytes.fromhex("80030001") + b"\0" + (12).to_bytes(3, "big") + bytes(10) + b"no",
        bytes.fromhex("8003000600000000"),
        bytes.fromhex("0000000100ffffff"),
    ],
)
def test_what_is_no_spdy_is_refused(sent: bytes) -> None:
    with pytest.raises(spdy.ProtocolError):
        list(spdy.Connection().receive(sent))


def test_headers_that_grow_too_large_are_refused() -> None:
    there, here = spdy.Connection(), spdy.Connection()
    with pytest.raises(spdy.ProtocolError, match="more than 65536 bytes"):
        list(here.receive(there.open(1, {"a": "x" * 200_000})))
