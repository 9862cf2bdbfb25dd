from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.contract.relay.rig import House, house


@pytest.fixture
async def relay() -> AsyncIterator[House]:
    async with house() as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A browser's or program's: it tells what went wrong and follows nothing by itself."""
    async with aiohttp.ClientSession() as session:
        yield session
