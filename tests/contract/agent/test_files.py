"""The work folder taken away and brought back: everything that can stand in a folder, and tars that mean harm."""

import io
import os
import socket
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.workspace.agent.archive import CHUNK_BYTES, Archive
from infra.workspace.agent.errors import BadArchive, Unreadable
from infra.workspace.agent.extraction import Extraction

MIB = 1 << 20
USER = 64_321  # an ordinary one that owns nothing else: root may read and write everything


@pytest.fixture
def folders() -> Iterator[tuple[Path, Path]]:
    """Where files come from and where they go; as an ordinary user, whoever runs the tests."""
    with tempfile.TemporaryDirectory() as name:
        root = os.geteuid() == 0
        made = []
        for part in ("from", "to"):
            path = Path(name) / part
            path.mkdir()
            if root:
                os.chown(path, USER, USER)
            made.append(path)
        (Path(name) / "outside").touch(0o666)
        Path(name).chmod(0o777)  # what keeps a tar inside is not a mode
        if root:
            os.seteuid(USER)
        try:
            yield made[0], made[1]
        finally:
            os.seteuid(os.getuid())


def archived(folder: Path) -> bytes:
    archive = Archive(str(folder))
    try:
        archive.check()
        return b"".join(archive.pieces())
    finally:
        archive.close()


def restored(folder: Path, tar: bytes, *, step: int = 100_003) -> None:
    extraction = Extraction(str(folder))
    try:
        for start in range(0, len(tar), step):
            extraction.feed(tar[start : start + step])
        extraction.finish()
    finally:
        extraction.close()


def seen(folder: Path) -> dict[bytes, tuple[Any, ...]]:
    """All that a restore has to bring back, by path."""
    found: dict[bytes, tuple[Any, ...]] = {}
    for place, inner, files in os.walk(folder):
        for name in inner + files:
            path = Path(place, name)
            status = path.lstat()
            content: object = None
            if stat.S_ISLNK(status.st_mode):
                content = path.readlink()
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            found[os.fsencode(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, content)
    return found


def test_an_empty_folder_is_an_empty_archive(folders: tuple[Path, Path]) -> None:
    origin, target = folders
    (target / "old").mkdir()
    (target / "old" / "file").write_text("goes")
    tar = archived(origin)
    assert tar == bytes(1024)
    restored(target, tar)
    assert list(target.iterdir()) == []


def test_everything_comes_back_as_it_was(folders: tuple[Path, Path]) -> None:
    origin, target = folders
    strange = origin / os.fsdecode(b"not-utf8-\xff\xfe")
    for name in ("plain", "ünïcode ✓", "new\nline", "x" * 255, "=", " "):
        (origin / name).write_text(name)
    (origin / "big").write_bytes(os.urandom(3 * CHUNK_BYTES + 7))
    for size in (0, 511, 512, 513, CHUNK_BYTES):
        (origin / f"size-{size}").write_bytes(b"x" * size)
    strange.write_text("x")
    long = origin / Path(*["d" * 200] * 5)
    long.mkdir(parents=True)
    (long / "deep").write_text("deep")
    for mode in (0o755, 0o400, 0o111, 0o7711):
        path = origin / f"mode-{mode:o}"
        path.write_text("x")
        path.chmod(mode | 0o400)
    (origin / "empty").mkdir(mode=0o700)
    (origin / "dangling").symlink_to("nowhere/at/all")
    (origin / "loop").symlink_to("loop")
    (origin / "out").symlink_to("/etc/passwd")
    (origin / "long-link").symlink_to("y" * 300)
    (origin / "strange-link").symlink_to(strange.name)
    for when, name in ((-1_500_000_000, "before-1970"), (1_700_000_000_123_456_789, "exact"), (0, "epoch")):
        (origin / name).write_text("x")
        os.utime(origin / name, ns=(when, when))
    os.utime(origin / "empty", ns=(1, 1_600_000_000_000_000_001))
    os.utime(origin / "loop", ns=(1, 1_600_000_000_000_000_001), follow_symlinks=False)
    before = seen(origin)
    restored(target, archived(origin))
    assert seen(target) == before


def test_names_of_one_file_are_names_of_one_file_again(folders: tuple[Path, Path]) -> None:
    origin, target = folders
    (origin / "a").mkdir()
    (origin / "a" / "first").write_text("shared")
    for name in ("second", "ü" * 60):
        (origin / name).hardlink_to(origin / "a" / "first")
    restored(target, archived(origin))
    numbers = {(target / name).stat().st_ino for name in ("a/first", "second", "ü" * 60)}
    assert len(numbers) == 1
    assert (target / "second").read_text() == "shared"


def test_holes_stay_holes(folders: tuple[Path, Path]) -> None:
    origin, target = folders
    with (origin / "sparse").open("wb") as file:
        for where in (0, 100 * MIB, 200 * MIB + 5):
            file.seek(where)
            file.write(b"data" * 3000)
        file.truncate(300 * MIB)
    with (origin / "all-hole").open("wb") as file:
        file.truncate(300 * MIB)
    with (origin / "ends-in-data").open("wb") as file:
        file.seek(10 * MIB)
        file.write(b"end")
    assert (origin / "sparse").stat().st_blocks * 512 < MIB
    tar = archived(origin)
    assert len(tar) < MIB
    restored(target, tar, step=511)
    for name in ("sparse", "all-hole", "ends-in-data"):
        assert (target / name).stat().st_size == (origin / name).stat().st_size
        assert (target / name).stat().st_blocks * 512 < MIB
    for path in (origin / "sparse", target / "sparse"):
        with path.open("rb") as file:
            for where in (0, 100 * MIB, 200 * MIB + 5):
                file.seek(where)
                assert file.read(12_001) == b"data" * 3000 + b"\0"
    assert (target / "ends-in-data").read_bytes() == (origin / "ends-in-data").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(tar)) as theirs:
        assert {member.name: member.size for member in theirs} == {
            "sparse": 300 * MIB,
            "all-hole": 300 * MIB,
            "ends-in-data": 10 * MIB + 3,
        }


def test_what_its_owner_has_closed_is_there_and_closed_again(folders: tuple[Path, Path]) -> None:
    origin, target = folders
    for mode in (0o000, 0o555, 0o311):
        folder = origin / f"folder-{mode:o}"
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "file").write_text("x")
        (folder / "inner").chmod(mode)
        folder.chmod(mode)
    (origin / "file-0").write_text("secret")
    (origin / "linked").hardlink_to(origin / "file-0")
    (origin / "file-0").chmod(0)
    tar = archived(origin)
    restored(target, tar)
    for place in (origin, target):
        assert stat.S_IMODE((place / "file-0").stat().st_mode) == 0
        for mode in (0o000, 0o555, 0o311):
            folder = place / f"folder-{mode:o}"
            assert stat.S_IMODE(folder.stat().st_mode) == mode
            folder.chmod(0o755)
            assert stat.S_IMODE((folder / "inner").stat().st_mode) == mode
            (folder / "inner").chmod(0o755)
            assert (folder / "inner" / "file").read_text() == "x"
        (place / "file-0").chmod(0o600)
        assert (place / "linked").read_text() == "secret"
    for mode in (0o000, 0o555):
        (target / f"folder-{mode:o}").chmod(mode)
    restored(target, bytes(1024))
    assert list(target.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="files of two users")
def test_what_is_closed_to_the_agent_is_named_and_never_left_out(folders: tuple[Path, Path]) -> None:
    origin, _ = folders
    (origin / "open").write_text("x")
    os.seteuid(0)
    for number in range(30):
        (origin / f"of-root-{number}").touch(0o600)
    (origin / "folder").mkdir(0o700)
    os.seteuid(USER)
    with pytest.raises(Unreadable, match=r"of-root-.* and 11 more") as refusal:
        archived(origin)
    assert refusal.value.facts["count"] == 31
    archive = Archive(str(origin))
    with pytest.raises(PermissionError):
        list(archive.pieces())
    archive.close()


def test_sockets_and_pipes_are_left_out(folders: tuple[Path, Path]) -> None:
    origin, target = folders
    os.mkfifo(origin / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(origin / "socket"))
    (origin / "file").write_text("x")
    restored(target, archived(origin))
    assert [path.name for path in target.iterdir()] == ["file"]


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more" * MIB)


def _replace(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "grows": _grow,
    "shrinks": lambda path: os.truncate(path, 10),
    "vanishes": Path.unlink,
    "is replaced": _replace,
}


EXPECTED = {"grows": [MIB, 5 * MIB, 5 * MIB], "shrinks": [10, 10, MIB], "vanishes": [MIB], "is replaced": [MIB]}


@pytest.mark.parametrize("how", CHANGES)
def test_a_file_that_changes_while_it_is_read_breaks_nothing(folders: tuple[Path, Path], how: str) -> None:
    origin, target = folders
    for name in ("one", "two", "three"):
        (origin / name).write_bytes(b"x" * MIB)
    archive = Archive(str(origin))
    pieces = archive.pieces()
    tar = next(pieces)
    for name in ("one", "two", "three"):
        CHANGES[how](origin / name)
    tar += b"".join(pieces)
    archive.close()
    restored(target, tar)
    sizes = sorted(path.stat().st_size for path in target.iterdir())
    assert sizes == EXPECTED[how]  # the one that was being read has the size that was said


def test_a_tree_may_be_deeper_than_a_path_may_be_long(folders: tuple[Path, Path]) -> None:
    origin, target = folders
    name, depth = "deeper" * 10, 100  # more than 4,096 bytes
    fd = os.open(origin, os.O_PATH)
    for number in range(depth):
        os.mkdir(name, dir_fd=fd)
        if number % 50 == 49:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        fd, above = os.open(name, os.O_PATH, dir_fd=fd), fd
        os.close(above)
    os.close(fd)
    tar = archived(origin)
    restored(target, tar)
    assert archived(target) == tar
    for folder in (origin, target):
        restored(folder, bytes(1024))
        assert list(folder.iterdir()) == []


def test_a_tree_that_no_tar_takes_is_named_and_not_followed_to_its_end(folders: tuple[Path, Path]) -> None:
    origin, _ = folders
    fd = os.open(origin, os.O_PATH)
    for _ in range(60):
        os.mkdir("deeper" * 40, dir_fd=fd)
        fd, above = os.open("deeper" * 40, os.O_PATH, dir_fd=fd), fd
        os.close(above)
    os.close(fd)
    with pytest.raises(Unreadable, match=r"bytes long\)") as refusal:
        archived(origin)
    assert refusal.value.facts["count"] == 1


def test_a_wide_folder_needs_few_descriptors(folders: tuple[Path, Path]) -> None:
    origin, target = folders
    for number in range(100):
        (origin / str(number)).mkdir()
        (origin / str(number) / "file").write_text("x")
    before = _descriptors()
    archive = Archive(str(origin))
    most = max(_descriptors() for _ in archive.pieces())
    archive.close()
    assert most - before < 80
    restored(target, archived(origin))
    assert _descriptors() == before
    assert seen(target) == seen(origin)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def made(*members: tarfile.TarInfo, data: bytes = b"", form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar by Python's own hand; each file holds `data`."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for member in members:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    one = tarfile.TarInfo(name)
    one.type, one.linkname, one.mode, one.mtime = kind, link, mode, 1_700_000_000.5
    return one


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_of_others_is_taken(folders: tuple[Path, Path], form: int) -> None:
    _, target = folders
    name = "/".join(["p" * 60] * 3)
    members = member("./a/"), member(f"./{name}"), member("a/b", tarfile.SYMTYPE, "../x")
    members[0].type, members[0].mode = tarfile.DIRTYPE, 0o755
    restored(target, made(*members, data=b"content", form=form))
    assert (target / name).read_bytes() == b"content"
    assert (target / "a" / "b").readlink() == Path("../x")


HARMFUL = {
    "an absolute path": [member("/tmp/evil")],
    "a way up": [member("a/../../evil")],
    "a link on the way": [member("d", tarfile.SYMTYPE, ".."), member("d/evil")],
    "a link on the way of a folder": [member("d", tarfile.SYMTYPE, ".."), member("d", tarfile.DIRTYPE)],
    "a link that is written through": [member("d", tarfile.SYMTYPE, "../evil"), member("d")],
    "a hard link to outside": [member("d", tarfile.LNKTYPE, "../outside")],
    "a hard link by an absolute path": [member("d", tarfile.LNKTYPE, "/etc/passwd")],
    "a hard link through a link": [member("d", tarfile.SYMTYPE, ".."), member("e", tarfile.LNKTYPE, "d/outside")],
    "a hard link to a folder": [member("d", tarfile.DIRTYPE, mode=0o755), member("e", tarfile.LNKTYPE, "d")],
    "a hard link to nothing": [member("d", tarfile.LNKTYPE, "nothing")],
    "a device": [member("d", tarfile.CHRTYPE)],
    "a pipe": [member("d", tarfile.FIFOTYPE)],
    "two of one name": [member("d"), member("d")],
    "a file as a folder": [member("d"), member("d/e")],
    "a name that is too long": [member("d" * 256)],
}


@pytest.mark.parametrize("harm", HARMFUL)
def test_a_tar_that_means_harm_is_refused_and_nothing_is_made_outside(folders: tuple[Path, Path], harm: str) -> None:
    _, target = folders
    before = sorted(path.name for path in target.parent.iterdir())
    with pytest.raises(BadArchive):
        restored(target, made(*HARMFUL[harm], data=b"x"))
    assert sorted(path.name for path in target.parent.iterdir()) == before
    restored(target, bytes(1024))
    assert list(target.iterdir()) == []


def test_a_tar_that_breaks_off_is_no_tar(folders: tuple[Path, Path]) -> None:
    origin, target = folders
    (origin / "file").write_text("x")
    whole = archived(origin)
    for end in (len(whole) - 512, 700, 512, 100, 0):
        with pytest.raises(BadArchive, match="breaks off"):
            restored(target, whole[:end])
