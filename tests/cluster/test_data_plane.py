"""The data plane between sound peers, slow ones and silent ones."""

import pytest
from pydantic import SecretStr

from headstart.cluster import data_plane, messages
from headstart.configs.settings import DataPlaneSettings
from headstart.stages.errors import EngineLost
from headstart.stages.stage_clock import Mark
from tests.cluster.data_plane_peers import (
    SETTINGS,
    WINDOW,
    gateway,
    opening,
    raw_gateway,
    replica,
    request,
)
from tests.support.streams import finished
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

IMPATIENT = SETTINGS.model_copy(update={"ping_interval_s": 0.2})
"""Takes a second of silence for death."""

LONG = 8000
"""Tokens whose log is several windows long."""


async def test_log_arrives_byte_for_byte() -> None:
    async with replica() as behind, gateway(behind.address) as remote:
        mirror = remote.serve(request("one", 300))
        await soon(mirror.grown(0))
        original = behind.streams.get("one")

        await finished(mirror)

        assert mirror.log.read(0) == original.log.read(0)
        assert mirror.end == original.end
        for mark in Mark:
            at = original.clock.get(mark)
            assert mirror.clock.get(mark) == (None if at is None else pytest.approx(at, abs=0.1))


async def test_confirmed_log_is_dropped() -> None:
    async with replica() as behind, gateway(behind.address) as remote:
        await finished(remote.serve(request("one", 3)))

        await eventually(lambda: "one" not in behind.streams)


async def test_one_step_is_one_message() -> None:
    num_streams, num_tokens = 8, 12
    async with (
        replica(tokens_per_s=100, time_to_first_token_s=0.05) as behind,
        raw_gateway(behind.address) as raw,
    ):
        await raw.open()
        for number in range(num_streams):
            await raw.send(messages.Submit(number, request(f"{number}", num_tokens), True))

        sizes = []
        while len(raw.ended) < num_streams:
            message = await raw.receive()
            if isinstance(message, messages.Step):
                sizes.append(sum(bool(part.data) for part in message.parts))

        # A step of its own for each first token, at most; all others serve all who are there.
        assert max(sizes) == num_streams
        assert sum(size > 0 for size in sizes) < num_streams * num_tokens / 2


async def test_slow_gateway_loses_nothing_and_holds_up_nobody() -> None:
    async with (
        replica() as behind,
        raw_gateway(behind.address) as slow,
        gateway(behind.address) as other,
    ):
        await slow.open()
        await slow.send(messages.Submit(1, request("slow", LONG), True))
        quick = other.serve(request("quick", LONG))
        while slow.received_bytes < WINDOW:
            await slow.receive()

        await finished(quick)
        original = behind.streams.get("slow")
        await finished(original)
        assert original.log.end > 2 * WINDOW
        assert slow.received_bytes < 2 * WINDOW
        assert not slow.ended

        while not slow.ended:
            await slow.acknowledge()
            await slow.receive()
        assert slow.logs[1] == original.log.read(0)


async def test_gateway_hears_of_others_while_its_window_is_closed() -> None:
    """Marks, pongs and replies need no credit."""
    async with replica() as behind, raw_gateway(behind.address) as slow:
        await slow.open()
        await slow.send(messages.Submit(1, request("slow", LONG), True))
        while slow.received_bytes < WINDOW:
            await slow.receive()

        await slow.send(messages.Ping(1.0))
        await slow.send(messages.Render(1, request("never", 1)))

        heard: set[type] = set()
        while not heard >= {messages.Pong, messages.Reply}:
            heard.add(type(await slow.receive()))


async def test_wrong_secret_is_refused() -> None:
    stranger = DataPlaneSettings(secret=SecretStr("another-secret-altogether"), ping_interval_s=60)
    async with replica() as behind, gateway(behind.address) as friend:
        with pytest.raises(EngineLost):
            async with gateway(behind.address, stranger):
                pass

        await finished(friend.serve(request("one", 3)))


async def test_silent_gateway_takes_along_what_nobody_else_wants() -> None:
    async with (
        replica(IMPATIENT, tokens_per_s=100) as behind,
        raw_gateway(behind.address) as silent,
        gateway(behind.address, IMPATIENT) as other,
    ):
        await silent.open()
        await silent.send(messages.Submit(1, request("attended", LONG), False))
        await silent.send(messages.Submit(2, request("detached", LONG), True))
        await eventually(lambda: behind.engine.load().running == 2)
        attended, detached = (behind.streams.get(name) for name in ("attended", "detached"))

        await soon(attended.finished())
        assert attended.end is not None
        assert attended.end.is_aborted

        mirror = other.attach("detached", 0)
        await soon(detached.grown(detached.log.end))
        await soon(mirror.grown(detached.log.end))
        assert mirror.log.read(0, limit=500) == detached.log.read(0, limit=500)


async def test_gateway_that_leaves_says_so() -> None:
    async with replica(tokens_per_s=100) as behind:
        async with gateway(behind.address) as leaving:
            leaving.serve(request("attended", LONG))
            leaving.serve(request("detached", LONG), is_detached=True)
            await eventually(lambda: behind.engine.load().running == 2)
            attended, detached = (behind.streams.get(name) for name in ("attended", "detached"))

        await soon(attended.finished())
        assert attended.end is not None
        assert attended.end.is_aborted
        assert detached.end is None


async def test_gateway_that_pings_is_not_silent() -> None:
    async with (
        replica(IMPATIENT, tokens_per_s=100) as behind,
        gateway(behind.address, IMPATIENT) as remote,
    ):
        # One and a half times the silence limit.
        stream = await finished(remote.serve(request("one", 150)))

        assert stream.end is not None
        assert not stream.end.is_aborted
        assert remote.is_up


async def test_load_is_known_without_steps() -> None:
    async with (
        replica(IMPATIENT, tokens_per_s=100) as behind,
        gateway(behind.address, IMPATIENT) as remote,
    ):
        behind.engine.serve(request("somebody-else's", LONG))

        await eventually(lambda: remote.load().running == 1)


async def test_clock_offset_is_measured() -> None:
    async with replica(IMPATIENT) as behind, gateway(behind.address, IMPATIENT) as remote:
        await eventually(lambda: remote.clock.is_known)

        assert abs(remote.clock.offset_s) <= remote.clock.uncertainty_s


async def test_gateway_that_comes_is_told_of_no_more_than_a_message_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(data_plane, "MOST_KEPT", 2)
    async with (
        replica(tokens_per_s=10) as behind,
        gateway(behind.address) as first,
        raw_gateway(behind.address) as second,
    ):
        live = first.serve(request("live", 1000), is_detached=True)
        await soon(live.grown(0))
        for name in ("old", "new"):
            await finished(first.serve(request(name, 1), is_detached=True))

        await second.send(opening())
        told = await second.receive()

        assert isinstance(told, messages.Opened)
        assert [kept.stream_id for kept in told.kept] == ["new", "live"]
