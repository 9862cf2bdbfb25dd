"""Chooses how containers run on this machine, and says what is missing where they cannot be isolated."""

import asyncio
import os
import zlib
from pathlib import Path

from infra.sandbox import bwrap, cgroups, egress, python
from infra.sandbox.bubblewrap import BubblewrapRuntime, Machine
from infra.sandbox.folders import Root
from infra.sandbox.spec import ContainerSpec, Limits, Runtime, SandboxError, SandboxUnavailable
