"""How clients find the emulator: a kubeconfig for kubectl, the official clients and the provider."""

import base64
import json
from typing import Final

CLUSTER: Final = "onmemos-local"


def kubeconfig(url: str, token: str, *, authority: str = "", namespace: str = "default") -> str:
    """YAML (which JSON is). `url`: https://127.0.0.1:PORT; `authority`: PEM of whom to trust."""
    cluster = {"server": url}
    if authority:
        cluster["certificate-authority-data"] = base64.b64encode(authority.encode()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CLUSTER, "cluster": cluster}],
        "users": [{"name": CLUSTER, "user": {"token": token}}],
        "contexts": [{"name": CLUSTER, "context": {"cluster": CLUSTER, "user": CLUSTER, "namespace": namespace}}],
        "current-context": CLUSTER,
    }
    return json.dumps(config, indent=2) + "\n"
