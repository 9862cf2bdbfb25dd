"""A Kubernetes cluster of one node on this machine: an API server for the real clients, Pods that are sandboxes."""

from infra.emulators.kubernetes.cluster import Kubernetes
from infra.emulators.kubernetes.kubeconfig import kubeconfig

__all__ = ["Kubernetes", "kubeconfig"]
