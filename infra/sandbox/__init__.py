"""Sandboxed containers on one machine: bubblewrap, gVisor or Docker behind one interface."""
