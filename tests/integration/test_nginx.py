"""Answers through a real nginx: as it comes, and where it packs event streams.

By itself nginx passes small events on even where it buffers; packing collects them until there is
a lot, unless `X-Accel-Buffering: no` tells it to flush.
"""

import asyncio
from pathlib import Path

import httpx
import pytest

from headstart.configs.serving import GatewaySettings
from tests.support.events import chunks
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds
from tests.support.nginx import nginx_before
from tests.support.node_client import read_through_node
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

PACKING = "gzip on; gzip_types text/event-stream; gzip_proxied any; gzip_min_length 0;"


async def the_same(gateway: Gateway, stream: str) -> list[dict[str, object]]:
    return chunks((await soon(gateway.client.get(f"/v1/streams/{stream}"))).content)


async def said_until(answer: httpx.Response, what: bytes, count: int) -> None:
    """Read until something has been said so often."""
    said = b""
    body = answer.aiter_bytes()
    while said.count(what) < count:
        said += await soon(anext(body))


@pytest.mark.parametrize("extra", ["", PACKING], ids=["plain", "packing"])
async def test_text_passes_while_the_answer_is_made(tmp_path: Path, extra: str) -> None:
    endless = speeds(tokens_per_s=20.0, answer_tokens=100_000)
    async with (
        serving(endless) as gateway,
        nginx_before(gateway.url, tmp_path, extra) as url,
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client,
        client.stream("POST", CHAT, json=saying(stream=True)) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers.get("content-encoding") == ("gzip" if extra else None)
        await said_until(answer, b"data: ", 3)


@pytest.mark.parametrize("extra", ["", PACKING], ids=["plain", "packing"])
async def test_heartbeats_pass_while_nothing_is_said(tmp_path: Path, extra: str) -> None:
    silent = speeds(time_to_first_token_s=100.0)
    settings = GatewaySettings(heartbeat_s=0.1, shutdown_grace_s=0)
    async with (
        serving(silent, settings=settings) as gateway,
        nginx_before(gateway.url, tmp_path, extra) as url,
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client,
        client.stream("POST", CHAT, json=saying(stream=True)) as answer,
    ):
        await said_until(answer, b": keep-alive", 2)


async def test_module_reads_through_it(tmp_path: Path) -> None:
    async with (
        serving(speeds(answer_tokens=30)) as gateway,
        nginx_before(gateway.url, tmp_path) as url,
    ):
        found = await asyncio.to_thread(read_through_node, url)
        assert found["chunks"] == await the_same(gateway, found["id"])
        assert found["rungs"] == ["sse"]
