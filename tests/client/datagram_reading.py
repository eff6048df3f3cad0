"""A client that reads by datagrams, through a path that a test may spoil."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from openai.types.chat import ChatCompletionChunk

from headstart.client import AsyncAnswer, AsyncClient
from headstart.client.quic_session import QuicSession
from headstart.stages.carrier_ladder import LadderLimits, Rung
from tests.support.events import chunks
from tests.support.gateway import Gateway, saying
from tests.support.offering import OtherPort
from tests.support.udp_relay import UdpRelay, udp_relay
from tests.support.waiting import soon

Answer = AsyncAnswer[ChatCompletionChunk]
ONLY_DATAGRAMS = frozenset({Rung.DATAGRAMS})
UNHURRIED = LadderLimits(race_s=1e6)
"""Datagrams are waited for, not by the reader but by the race: it ends when they have caught up."""


@asynccontextmanager
async def reading(
    gateway: Gateway, relay: UdpRelay, limits: LadderLimits | None = UNHURRIED, **options: Any
) -> AsyncIterator[AsyncClient]:
    """A client whose UDP goes through the relay."""
    async with (
        httpx.AsyncClient(
            base_url=gateway.url, timeout=None, transport=OtherPort(relay.port)
        ) as http,
        AsyncClient(http=http, limits=limits, **options) as client,
    ):
        yield client


@asynccontextmanager
async def relayed(gateway: Gateway, **link: Any) -> AsyncIterator[tuple[UdpRelay, AsyncClient]]:
    assert gateway.quic is not None
    async with udp_relay(gateway.quic.port, **link) as relay, reading(gateway, relay) as client:
        await session_of(client)
        yield relay, client


async def session_of(client: AsyncClient) -> QuicSession | None:
    """The session over which datagrams come; None where none can be had."""
    assert client._sessions is not None
    session = await soon(client._sessions.current())
    assert session is None or isinstance(session, QuicSession)
    return session


async def ask(client: AsyncClient) -> Answer:
    return await soon(client.chat.completions.create(**saying(), stream=True))


async def until(answer: Answer, rungs: frozenset[Rung]) -> list[ChatCompletionChunk]:
    """Read until the answer comes by these rungs."""
    found = [await soon(anext(answer))]
    while answer.rungs != rungs:
        found.append(await soon(anext(answer)))
    return found


async def rest(answer: Answer) -> list[ChatCompletionChunk]:
    return [chunk async for chunk in answer]


async def as_events(gateway: Gateway, answer: Answer) -> list[ChatCompletionChunk]:
    """What the event stream gives for the same answer."""
    body = (await soon(gateway.client.get(f"/v1/streams/{answer.id}"))).content
    return [ChatCompletionChunk.construct(**chunk) for chunk in chunks(body)]
