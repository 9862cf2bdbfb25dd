"""Running the official emulator as a child: it comes up, keeps its data when told to, and goes."""

import asyncio
from pathlib import Path

import pytest

from infra.emulators.firestore_official import find_official
from tests.contract.firestore.conftest import connect

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_kept_project_is_back_after_a_restart(tmp_path: Path, project: str) -> None:
    official = find_official()
    if official is None or official.address is not None:
        pytest.skip("no official Firestore emulator to start on this machine")
    data, log = tmp_path / "data", tmp_path / "firestore.log"
    for turn in range(2):
        async with official.run(log_path=log, data_path=data, project=project) as address:
            document = connect(address, project).document("c/a")
            assert (await document.get()).to_dict() == ({"n": [1, {"x": 2.5}]} if turn else None)
            await document.set({"n": [1, {"x": 2.5}]})
        host, port = address.split(":")
        with pytest.raises(ConnectionError):
            await asyncio.open_connection(host, int(port))
