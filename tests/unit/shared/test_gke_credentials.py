"""Where the cluster is and what opens it: kubeconfigs of every kind, tokens renewed once and in time."""

import asyncio
import base64
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from shared.errors import ProviderUnavailable, WorkspaceUnreachable
from shared.providers.gke import Gke, GkeSettings, credentials
from shared.providers.gke_credentials import Kept, Kubeconfig, Token
from shared.providers.gke_endpoint import GkeCluster
from tests.fakes import a_session

PLUGIN = """
import json, os, pathlib, sys
assert json.loads(os.environ["KUBERNETES_EXEC_INFO"])["kind"] == "ExecCredential"
calls = pathlib.Path(sys.argv[1])
calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
status = {"token": f"token-{len(calls.read_text())}", "expirationTimestamp": sys.argv[2]}
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}))
"""


def kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> Kubeconfig:
    path = folder / "config"
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "second",
                "clusters": [{"name": "c0", "cluster": {"server": "http://x"}}, {"name": "c1", "cluster": cluster}],
                "users": [{"name": "u0", "user": {}}, {"name": "u1", "user": user}],
                "contexts": [
                    {"name": "first", "context": {"cluster": "c0", "user": "u0"}},
                    {"name": "second", "context": {"cluster": "c1", "user": "u1"}},
                ],
            }
        )
    )
    return Kubeconfig(path)


def a_certificate() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


async def test_the_current_context_says_where_and_with_which_token(tmp_path: Path) -> None:
    found = kubeconfig(tmp_path, {"server": "http://127.0.0.1:1/"}, {"token": "t0"})
    assert ((await found.server()).url, (await found.server()).ssl) == ("http://127.0.0.1:1", None)
    assert await found.headers() == {"Authorization": "Bearer t0"}


async def test_certificates_come_as_data_or_as_files_beside_the_kubeconfig(tmp_path: Path) -> None:
    certificate, key = a_certificate()
    (tmp_path / "ca.pem").write_bytes(certificate)
    user = {
        "client-certificate-data": base64.b64encode(certificate).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }
    found = kubeconfig(tmp_path, {"server": "https://127.0.0.1:1", "certificate-authority": "ca.pem"}, user)
    context = (await found.server()).ssl
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1
    assert await found.headers() == {}  # the certificate opens it


async def test_a_server_need_not_be_verified_where_the_kubeconfig_says_so(tmp_path: Path) -> None:
    found = kubeconfig(tmp_path, {"server": "https://127.0.0.1:1", "insecure-skip-tls-verify": True}, {})
    context = (await found.server()).ssl
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


async def test_a_token_file_is_read_again_after_it_was_forgotten(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    found = kubeconfig(tmp_path, {"server": "http://127.0.0.1:1"}, {"tokenFile": "token", "token": "stale"})
    assert await found.headers() == {"Authorization": "Bearer one"}
    (tmp_path / "token").write_text("two\n")
    assert await found.headers() == {"Authorization": "Bearer one"}
    found.forget()
    assert await found.headers() == {"Authorization": "Bearer two"}


async def test_a_plugin_is_run_when_its_token_expires_and_not_before(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)

    def config(lasts: timedelta) -> Kubeconfig:
        until = (datetime.now(UTC) + lasts).isoformat()
        arguments = [str(plugin), str(tmp_path / "calls"), until]
        exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": arguments}
        return kubeconfig(tmp_path, {"server": "http://127.0.0.1:1"}, {"exec": exec_})

    found = config(timedelta(hours=1))
    first = await found.headers()
    assert await found.headers() == first
    found = config(timedelta(seconds=1))
    assert await found.headers() != await found.headers()


@pytest.mark.parametrize(
    ("cluster", "user", "said"),
    [
        ({}, {}, "server"),
        ({"server": "http://x", "proxy-url": "http://y"}, {}, "proxy-url"),
        ({"server": "http://x"}, {"auth-provider": {"name": "gcp"}}, "auth-provider"),
        ({"server": "http://x"}, {"username": "u", "password": "p"}, "username"),
    ],
)
async def test_a_kubeconfig_that_cannot_be_used_says_why(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], said: str
) -> None:
    with pytest.raises(ProviderUnavailable, match=said):
        await kubeconfig(tmp_path, cluster, user).server()


@pytest.mark.parametrize("text", ["", "[]", "{: no", "{}"])
async def test_a_file_that_is_no_kubeconfig_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(ProviderUnavailable, match="kubeconfig"):
        await Kubeconfig(tmp_path / "config").server()


async def test_many_callers_make_one_token() -> None:
    asked: list[int] = []
    now = 0.0

    async def source() -> Token:
        asked.append(1)
        await asyncio.sleep(0)
        return Token(f"t{len(asked)}", now + 3600)

    kept = Kept(source, clock=lambda: now)
    assert await asyncio.gather(*(kept.headers() for _ in range(10))) == [{"Authorization": "Bearer t1"}] * 10
    now = 3200.0
    assert await kept.headers() == {"Authorization": "Bearer t1"}
    now = 3301.0
    assert await kept.headers() == {"Authorization": "Bearer t2"}
    assert len(asked) == 2


async def test_a_source_that_fails_is_asked_again() -> None:
    faults = [ProviderUnavailable("no metadata server")]

    async def source() -> Token:
        if faults:
            raise faults.pop()
        return Token("t", time.monotonic() + 3600)

    kept = Kept(source)
    with pytest.raises(ProviderUnavailable):
        await kept.headers()
    assert await kept.headers() == {"Authorization": "Bearer t"}


def test_settings_choose_the_kubeconfig_or_the_cluster(tmp_path: Path) -> None:
    assert isinstance(credentials(GkeSettings(kubeconfig=str(tmp_path / "config"))), Kubeconfig)
    assert isinstance(credentials(GkeSettings(cluster="projects/p/locations/l/clusters/c")), GkeCluster)


async def test_the_token_goes_to_the_api_server_alone_wherever_that_is_now(tmp_path: Path) -> None:
    provider = Gke(GkeSettings(), kubeconfig(tmp_path, {"server": "http://127.0.0.1:2"}, {"token": "t0"}))
    path = "/api/v1/namespaces/n/pods/p:8080/proxy"
    address = await provider.address(a_session(url=f"http://127.0.0.1:1{path}"))
    assert (address.url, address.headers) == (f"http://127.0.0.1:2{path}", {"Authorization": "Bearer t0"})
    direct = await provider.address(a_session(url="http://10.0.0.7:8080"))
    assert (direct.url, direct.headers, direct.ssl) == ("http://10.0.0.7:8080", {}, None)
    with pytest.raises(WorkspaceUnreachable):
        await provider.address(a_session(url=None))


def test_the_way_to_an_agent_loads_no_kubernetes_client(tmp_path: Path) -> None:
    kubeconfig(tmp_path, {"server": "http://127.0.0.1:2"}, {"token": "t0"})
    code = f"""
import asyncio, sys
from shared.providers.gke import Gke, GkeSettings, credentials
from tests.fakes import a_session
settings = GkeSettings(kubeconfig={str(tmp_path / "config")!r})
session = a_session(url="http://x/api/v1/namespaces/n/pods/p:8080/proxy")
asyncio.run(Gke(settings, credentials(settings)).address(session))
print([name for name in sys.modules if name.startswith("kubernetes")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
