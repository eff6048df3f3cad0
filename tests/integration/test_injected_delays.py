"""A delay put into one stage of a request shows in that stage of its clock, and nowhere else.

A whole gateway and its fake engine; the delays come in through what the gateway is given: a link
that takes its time, a pool or a table that does, a client that does. The same on a real engine:
test_injected_engine_delays.py.
"""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.replica_pool import ReplicaPool
from headstart.cluster.stream import StreamTable
from headstart.configs.model_settings import ModelSettings
from headstart.stages.retention import Retention
from headstart.stages.routing import Wanted
from headstart.stages.stage_clock import Stage
from tests.support.delays import Took, check, least
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds
from tests.support.raw_http import connected
from tests.support.relay import Relay, relaying
from tests.support.waiting import eventually, soon

pytestmark = [pytest.mark.anyio, pytest.mark.alone]

DELAY_S = 0.4
IN_THE_ENGINE = ["tokenise", "queue", "prefill", "decode", "detokenise", "frame"]


class SlowPool(ReplicaPool):
    """Takes a while to pick a replica."""

    delay_s = 0.0

    def choose(self, model: str, wanted: Wanted | None = None) -> RemoteEngine:
        time.sleep(self.delay_s)
        return super().choose(model, wanted)


class SlowTable(StreamTable):
    """Takes a while to say whether there is room for a stream."""

    delay_s = 0.0

    @property
    def is_full(self) -> bool:
        time.sleep(self.delay_s)
        return super().is_full


async def ask(gateway: Gateway, body_after_s: float = 0.0) -> Took:
    """Have one streamed answer.

    Args:
        body_after_s: How long the client waits with its body.
    """
    gateway.replica.requests.clear()
    body = json.dumps(saying(stream=True)).encode()
    async with connected(gateway.address) as connection:
        began = time.monotonic()
        connection.head("POST", CHAT, content_length=str(len(body)))
        if body_after_s:
            await eventually(lambda: time.monotonic() > began + body_after_s)
        connection.write(body)
        await connection.all_until(b"data: [DONE]\n\n")
        whole_s = time.monotonic() - began
    await gateway.unused()
    path = f"/v1/streams/{gateway.replica.requests[0].stream_id}/timing"
    timing = (await soon(gateway.client.get(path))).json()
    return Took(timing["stages_s"], whole_s)


@asynccontextmanager
async def behind_a_relay() -> AsyncIterator[tuple[Gateway, Relay]]:
    """A gateway that reaches its replica by a relay; the clocks' offset is known."""
    async with serving(is_connected=False) as gateway, relaying(gateway.replica.port) as relay:
        await gateway.connect(relay.port)
        yield gateway, relay
        gateway.pool.update([])


async def test_parse(gateway: Gateway) -> None:
    usual = await least(lambda: ask(gateway))
    await check(Stage.PARSE, usual, lambda: ask(gateway, body_after_s=DELAY_S), DELAY_S)


async def test_auth() -> None:
    table = SlowTable(Retention(300, 1 << 28), 1 << 24, time.monotonic)
    async with serving(streams=table) as gateway:
        usual = await least(lambda: ask(gateway))
        table.delay_s = DELAY_S
        await check(Stage.AUTH, usual, lambda: ask(gateway), DELAY_S)


async def test_route() -> None:
    async with serving(pool=SlowPool) as gateway:
        usual = await least(lambda: ask(gateway))
        assert isinstance(gateway.pool, SlowPool)
        gateway.pool.delay_s = DELAY_S
        await check(Stage.ROUTE, usual, lambda: ask(gateway), DELAY_S)


async def test_hop() -> None:
    async with behind_a_relay() as (gateway, relay):
        usual = await least(lambda: ask(gateway))
        relay.to_server_s = DELAY_S
        await check(Stage.HOP, usual, lambda: ask(gateway), DELAY_S)


@pytest.mark.parametrize("stage", IN_THE_ENGINE)
async def test_stage_in_the_engine(stage: str) -> None:
    def model(**delays: float) -> ModelSettings:
        return speeds(tokens_per_s=100.0, stage_delays_s=delays)

    async with serving(model()) as gateway:
        usual = await least(lambda: ask(gateway))
    async with serving(model(**{stage: DELAY_S})) as gateway:
        await check(Stage(stage), usual, lambda: ask(gateway), DELAY_S)


async def test_send_by_a_slow_link() -> None:
    async with behind_a_relay() as (gateway, relay):
        usual = await least(lambda: ask(gateway))
        relay.to_client_s = DELAY_S
        await check(Stage.SEND, usual, lambda: ask(gateway), DELAY_S)


async def test_send_by_a_reader_that_does_not_read() -> None:
    fast = speeds(tokens_per_s=0.0, tokens_per_step=64, answer_tokens=100_000)
    async with (
        serving(fast) as gateway,
        connected(gateway.address, receive_buffer=1 << 15) as connection,
    ):
        connection.post(CHAT, saying(stream=True))
        await eventually(lambda: len(gateway.streams.live) == 1)
        stream = gateway.live
        await soon(stream.finished())
        resumed_at = time.monotonic() + DELAY_S
        await eventually(lambda: time.monotonic() >= resumed_at)
        began = time.monotonic()

        await connection.all_until(b"data: [DONE]\n\n")

        reading_s = time.monotonic() - began
        await gateway.unused()
        waited_s = stream.clock.durations()[Stage.SEND] - reading_s
        assert waited_s == pytest.approx(DELAY_S, rel=0.1)
