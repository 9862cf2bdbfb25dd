"""One agent for each module of tests; what a test leaves behind is in a folder of its own."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.contract.agent.rig import Agent, Client, running


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with running(tmp_path_factory.mktemp("workspace")) as agent:
        yield agent


@pytest.fixture
async def client(agent: Agent) -> AsyncIterator[Client]:
    async with agent.client() as client:
        yield client
