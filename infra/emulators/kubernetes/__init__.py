"""A Kubernetes cluster of one node on this machine: an API server for the real clients, Pods that are sandboxes."""
