"""The browser module's rungs over HTTP, in Node: connections break and stand still."""

import asyncio
from typing import Any

import pytest

from headstart.configs.access import AccessSettings, KeySettings
from headstart.stages.access import hash_of
from tests.support.events import chunks
from tests.support.gateway import Gateway, serving, speeds
from tests.support.node_client import read_through_node
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

SLOW = speeds(tokens_per_s=120.0, answer_tokens=60)


async def read(gateway: Gateway, network: str, **options: Any) -> Any:
    """Let the module read an answer."""
    reading = asyncio.to_thread(read_through_node, gateway.url, network, **options)
    return await soon(reading)


async def the_same(gateway: Gateway, stream: str) -> list[dict[str, Any]]:
    return chunks((await soon(gateway.client.get(f"/v1/streams/{stream}"))).content)


async def test_an_event_stream_gives_every_chunk() -> None:
    async with serving(SLOW) as gateway:
        found = await read(gateway, "good")
        assert found["chunks"] == await the_same(gateway, found["id"])
        assert found["rungs"] == ["sse"]


async def test_connections_that_break_again_and_again_lose_nothing() -> None:
    async with serving(SLOW) as gateway:
        found = await read(gateway, "breaking")
        assert found["failure"] is None
        assert found["chunks"] == await the_same(gateway, found["id"])


async def test_an_answer_is_read_on_with_the_key_it_was_asked_for_with() -> None:
    keys = tuple(KeySettings(id=name, hash=hash_of(f"hs-{name}")) for name in ("alice", "bob"))
    async with serving(SLOW, access=AccessSettings(keys=keys)) as gateway:
        asked = {"authorization": "Bearer hs-bob"}
        found = await read(gateway, "breaking", apiKey="hs-alice", headers=asked)
        assert found["failure"] is None
        path = f"/v1/streams/{found['id']}"
        assert found["chunks"] == chunks(
            (await soon(gateway.client.get(path, headers=asked))).content
        )


async def test_event_streams_that_are_held_back_are_polled() -> None:
    async with serving(SLOW) as gateway:
        found = await read(gateway, "held", quietS=0.5)
        assert found["failure"] is None
        assert found["chunks"] == await the_same(gateway, found["id"])
        assert found["rungs"] == ["poll"]


async def test_an_answer_that_was_never_begun_is_an_error() -> None:
    async with serving(SLOW) as gateway:
        url = gateway.url
    found = await soon(asyncio.to_thread(read_through_node, url))
    assert found["failure"] == "EngineUnavailable"
