"""The tar format: what is built is taken apart again, in pieces of any size; what is broken is refused."""

import io
import tarfile

import pytest

from infra.workspace.agent import tar
from infra.workspace.agent.errors import BadArchive
from infra.workspace.agent.tar import Member
from infra.workspace.agent.tar_reader import Reader, inside

NOW = 1_700_000_000_123_456_789
MEMBERS = [
    Member(b"plain", tar.FILE, 0o644, 1_700_000_000 * 10**9, 5),
    Member(b"f" * 100, tar.FILE, 0o7777, NOW, 0),
    Member(b"long/" * 60 + b"file", tar.FILE, 0o600, -1, 512),
    Member("ünïcode/✓".encode(), tar.FILE, 0, -1_500_000_000, 513),
    Member(b"not-utf8-\xff", tar.SYMLINK, 0o777, NOW, link=b"\xfe" * 200),
    Member(b"folder", tar.FOLDER, 0o755, NOW),
    Member(b"hard", tar.HARD_LINK, 0o644, NOW, link=b"plain"),
    Member(b"sparse-\xff", tar.FILE, 0o644, NOW, 10**12, segments=((4096, 7), (10**12, 0))),
    Member(b"holes", tar.FILE, 0o644, NOW, 10**9, segments=tuple((n * 1000, 3) for n in range(500))),
]


def built(*members: Member) -> bytes:
    whole = b""
    for member in members:
        data = b"d" * tar.data_size(member)
        whole += tar.header(member) + data + tar.padding(len(data))
    return whole + tar.END


def taken_apart(whole: bytes, size: int) -> list[tuple[Member, bytes]]:
    reader, found = Reader(), list[tuple[Member, bytes]]()
    for start in range(0, len(whole), size):
        assert not reader.ended
        for event in reader.feed(whole[start : start + size]):
            if isinstance(event, Member):
                found.append((event, b""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + bytes(event))
    assert reader.ended
    return found


@pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 4096, 1 << 20])
def test_what_was_built_is_taken_apart(size: int) -> None:
    expected = [(member, b"d" * tar.data_size(member)) for member in MEMBERS]
    assert taken_apart(built(*MEMBERS), size) == expected


def test_others_read_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(built(*MEMBERS[:-1]))) as theirs:
        found = theirs.getmembers()
    assert [one.name.encode("utf-8", "surrogateescape") for one in found] == [one.path for one in MEMBERS[:-1]]
    assert [one.size for one in found] == [one.size for one in MEMBERS[:-1]]
    assert [round(one.mtime) for one in found] == [round(one.mtime_ns / 10**9) for one in MEMBERS[:-1]]


def test_a_file_of_more_than_octal_digits_can_say() -> None:
    large = Member(b"large", tar.FILE, 0o644, 0, 1 << 40)
    reader = Reader()
    assert list(reader.feed(tar.header(large))) == [large]
    theirs = tarfile.TarInfo("large")
    theirs.size = 1 << 40
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        (found,) = Reader().feed(theirs.tobuf(form))
        assert isinstance(found, Member)
        assert found.size == 1 << 40


@pytest.mark.parametrize("path", [b"/etc", b"..", b"a/../b", b"a/..", b"a\0b", b"a" * 70_000])
def test_a_path_that_leads_elsewhere_is_refused(path: bytes) -> None:
    with pytest.raises(BadArchive):
        inside(path)


def test_a_path_is_made_plain() -> None:
    assert [inside(path) for path in (b"./a//b/", b".", b"...", b"a")] == [b"a/b", b"", b"...", b"a"]


def _records(text: bytes) -> bytes:
    extended = Member(b"x", b"x", 0o644, 0, len(text))
    return tar.header(extended) + text + tar.padding(len(text)) + built(Member(b"file", tar.FILE, 0o644, 0, 0))


def _with(field: slice, text: bytes, kind: bytes = tar.FILE) -> bytes:
    """An archive of one member, with this in a field of its header."""
    block = bytearray(tar.header(Member(b"file", kind, 0o644, 0, 0)))
    block[field] = text
    block[tar.CHECKSUM] = b" " * 8
    block[tar.CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(2 * 512) + tar.END


SIZE = slice(124, 136)
GOOD = built(Member(b"file", tar.FILE, 0o644, 0, 0))
SPARSE = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
BROKEN = {
    "noise": b"noise" * 200,
    "a check sum": GOOD[:10] + b"x" + GOOD[11:],
    "a number": GOOD[:124] + b"zzzzzzzzzzz\0" + GOOD[136:],
    "a size below zero": _with(SIZE, b"-0000000017\0"),
    "an extended header's size below zero": _with(SIZE, b"-0000001130\0", b"x"),
    "a number with an underscore": _with(SIZE, b"00_0000_000\0"),
    "the work folder as a file": built(Member(b".", tar.FILE, 0o644, 0, 5)),
    "the work folder as a link": built(Member(b"", tar.SYMLINK, 0o777, 0, link=b"/etc")),
    "a link that no path can be": built(Member(b"link", tar.SYMLINK, 0o777, 0, link=b"a\0" * 100)),
    "one zero block": bytes(512) + GOOD,
    "an endless header": tar.header(Member(b"x", b"x", 0, 0, 1 << 30)),
    "a record's length": _records(b"99 path=x\n"),
    "a record without a length": _records(b"path=x\n"),
    "a record without a value": _records(b"7 path\n"),
    "a time": _records(b"17 mtime=tomorrow\n"),
    "a time that no clock shows": _records(b"27 mtime=99999999999999999\n"),
    "a size": _records(b"11 size=-5\n"),
    "a sparse file of another version": _records(b"22 GNU.sparse.major=0\n"),
    "a sparse file without its size": _records(SPARSE),
    "a sparse file without a map": _records(SPARSE + b"26 GNU.sparse.realsize=10\n"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_refused(what: str) -> None:
    with pytest.raises(BadArchive):
        list(Reader().feed(BROKEN[what]))


@pytest.mark.parametrize("segments", [((5, 6),), ((0, 4), (2, 4)), ((11, 0),), ((0, 10), (0, 0))])
def test_a_map_that_does_not_fit_its_file_is_refused(segments: tuple[tar.Segment, ...]) -> None:
    with pytest.raises(BadArchive):
        list(Reader().feed(built(Member(b"x", tar.FILE, 0o644, 0, 10, segments=segments))))


def test_a_map_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    begun = _records(SPARSE + b"26 GNU.sparse.realsize=10\n").removesuffix(
        built(Member(b"file", tar.FILE, 0o644, 0, 0))
    )
    endless = begun + tar.header(Member(b"file", tar.FILE, 0o644, 0, 1 << 30)) + b"1\n"
    reader = Reader()
    assert list(reader.feed(endless)) == []
    with pytest.raises(BadArchive, match="numbers that are none"):
        list(reader.feed(b"0" * 4096))
