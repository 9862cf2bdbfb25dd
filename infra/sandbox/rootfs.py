"""What a session sees as its file system, as a list of entries that bubblewrap and gVisor each put up their own way."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.sandbox.spec import INSIDE_ID, SOCKETS, WORKSPACE, ContainerSpec

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CA_BUNDLES = (  # Debian, Fedora, openSUSE, Alpine: the order of Go's crypto/x509
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
CA_VARIABLES = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
)  # fmt: skip

_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_STORES = ("/nix/store", "/gnu/store")  # where /usr is only links into a store
_ETC = (  # of the host's /etc: what programs need to find themselves, and nothing that may hold a secret
    "alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "timezone", "mime.types", "magic",
    "os-release", "debian_version", "redhat-release", "alpine-release", "services", "protocols", "ssl/certs",
    "ssl/openssl.cnf", "ssl/cert.pem", "ssl/ca-bundle.pem", "ca-certificates.conf", "ca-certificates",
    "pki/ca-trust", "pki/tls/certs", "pki/tls/cert.pem", "pki/tls/openssl.cnf", "crypto-policies", "terminfo",
    "inputrc", "bash.bashrc", "fonts", "perl", "python3", "python3.11", "python3.12", "python3.13", "python3.14",
    "java-17-openjdk", "java-21-openjdk", "java-25-openjdk", "gai.conf", "static",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bind:
    """A host file or folder shown at `target`; missing sources are the caller's mistake.

    `private` marks what the session's user must reach whoever owns it on the host: it is shown as their own.
    """

    source: str
    target: str
    read_only: bool = True
    private: bool = False


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty folder in memory, of at most `size_bytes`; `mode` are its permission bits."""

    target: str
    size_bytes: int
    mode: int = 0o1777


@dataclass(frozen=True, slots=True)
class File:
    """A read-only file with this content."""

    target: str
    content: bytes
    mode: int = 0o444


@dataclass(frozen=True, slots=True)
class Symlink:
    """A link at `target` that says `to`."""

    target: str
    to: str


@dataclass(frozen=True, slots=True)
class Directory:
    """An empty, read-only folder."""

    target: str


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """What was put below the mounted folder `target` so far is complete: nothing is written there any more."""

    target: str


Entry = Bind | Tmpfs | File | Symlink | Directory | ReadOnly


def system(host: Path = Path("/")) -> Iterator[Entry]:
    """The host's programs and libraries, read-only, and the harmless part of its /etc."""
    yield Bind("/usr", "/usr")
    for name in _TOP:
        path = host / name
        if path.is_symlink():
            yield Symlink(f"/{name}", str(path.readlink()))
        elif path.is_dir():
            yield Bind(f"/{name}", f"/{name}")
    for store in _STORES:
        if Path(store).is_dir():
            yield Bind(store, store)
    for name in _ETC:
        if (host / "etc" / name).exists():
            yield Bind(f"/etc/{name}", f"/etc/{name}")


def identity(hostname: str, nameserver: str | None) -> Iterator[Entry]:
    """Generated /etc files: two users, this host's name, no other names; `nameserver` None means no resolver."""
    user = INSIDE_ID
    resolver = f"nameserver {nameserver}\noptions timeout:2 attempts:3\n" if nameserver else ""
    files = {
        "passwd": f"root:x:0:0:root:/root:/usr/sbin/nologin\nuser:x:{user}:{user}:user:{WORKSPACE}:{_shell()}\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "group": f"root:x:0:\nuser:x:{user}:\nnogroup:x:65534:\n",
        "hosts": f"127.0.0.1 localhost {hostname}\n::1 localhost\n",
        "hostname": f"{hostname}\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n"
        "protocols: files\nservices: files\n",
        "resolv.conf": resolver,
    }
    for name, text in files.items():
        yield File(f"/etc/{name}", text.encode())


def _shell() -> str:
    return "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"


def writable(spec: ContainerSpec, workspace: Path, sockets: Path) -> Iterator[Entry]:
    """Where the session may write: its work folder, memory-backed /tmp and /dev/shm, and what was mounted for it."""
    yield Tmpfs("/tmp", spec.limits.memory_bytes // 2)  # noqa: S108 - inside
    yield Directory("/var/lib")
    yield Symlink("/var/tmp", "../tmp")  # noqa: S108 - inside
    yield Symlink("/var/run", "../run")
    if all(mount.target != WORKSPACE for mount in spec.mounts):
        yield Bind(str(workspace), WORKSPACE, read_only=False, private=True)
    yield Bind(str(sockets), SOCKETS, read_only=False, private=True)
    for mount in spec.mounts:
        yield Bind(str(mount.source), mount.target, read_only=mount.read_only, private=True)


def ca_environment() -> dict[str, str]:
    """The variables under which common tools look for the system's certificates; empty where there are none."""
    for bundle in CA_BUNDLES:
        if Path(bundle).is_file():
            return dict.fromkeys(CA_VARIABLES, bundle)
    return {}


def short_hostname(name: str) -> str:
    """A host name the kernel takes: at most 64 bytes."""
    return name[:63].rstrip("-")
