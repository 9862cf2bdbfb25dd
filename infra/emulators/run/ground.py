"""What all that is kept of Cloud Run stands on."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field

from infra.emulators.run.container_names import ContainerNames
from infra.emulators.run.specs import Folders
from infra.emulators.run.storage import Storage
from infra.sandbox.spec import Runtime


def utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True, slots=True)
class Ground:
    storage: Storage
    runtime: Runtime
    folders: Folders
    clock: Callable[[], datetime.datetime] = utc_now
    names: ContainerNames = field(default_factory=ContainerNames)
