"""The names of the containers of services and instances: they share one space, and the gateway's paths."""

import hashlib

from infra.emulators.run.names import Name


class ContainerNames:
    def __init__(self) -> None:
        self._owners: dict[str, str] = {}  # container -> resource

    def free(self, name: Name) -> str:
        """The resource's own id, or with a suffix when one of another kind, project or region has it."""
        if name.id not in self._owners:
            return name.id
        digest = hashlib.sha256(str(name).encode()).hexdigest()
        return next(c for n in range(6, 14) if (c := f"{name.id}-{digest[:n]}") not in self._owners)

    def take(self, container: str, owner: str) -> None:
        self._owners[container] = owner

    def give_back(self, container: str) -> None:
        self._owners.pop(container, None)

    def owner(self, container: str) -> str:
        """The resource's name; "" for a container of nobody."""
        return self._owners.get(container, "")
