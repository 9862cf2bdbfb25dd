"""The controller of ResourceQuotas: the status of each tells its limits, and what is used of them."""

from infra.emulators.kubernetes.following import Following
from infra.emulators.kubernetes.history import Event
from infra.emulators.kubernetes.kinds import RESOURCE_QUOTAS
from infra.emulators.kubernetes.objects import Object, Objects
from infra.emulators.kubernetes.quantities import written_like
from infra.emulators.kubernetes.quota import used_of


class QuotaStatus(Following):
    def __init__(self, objects: Objects) -> None:
        super().__init__(objects, "resource-quotas")

    async def _saw(self, events: list[Event]) -> None:
        for namespace in {event.object["metadata"].get("namespace", "") for event in events} - {""}:
            for quota in self._objects.list(RESOURCE_QUOTAS, namespace)[0]:
                with self._going_on():
                    await self._refresh(quota, namespace)

    async def _refresh(self, quota: Object, namespace: str) -> None:
        hard: dict[str, str] = (quota.get("spec") or {}).get("hard") or {}
        used = {key: written_like(amount, hard[key]) for key, amount in used_of(self._objects, namespace, hard).items()}
        status = {"hard": hard, "used": used}
        if quota.get("status") != status:
            await self._objects.update(RESOURCE_QUOTAS, {**quota, "status": status}, status=True)
