"""The data plane with peers that break its rules, and with links that break."""

import asyncio

import pytest
from structlog.testing import capture_logs

from headstart.cluster import messages
from headstart.cluster.engine import EngineLoad
from headstart.cluster.stream import Stream
from headstart.stages.errors import EngineFailed, EngineLost
from headstart.stages.frames import StreamHeader, encode
from headstart.stages.mirror import Part, StreamEnd
from tests.cluster.data_plane_peers import (
    SETTINGS,
    gateway,
    opened,
    opening,
    raw_gateway,
    raw_replica,
    replica,
    request,
)
from tests.support.streams import finished
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

LONG = 100_000

VIOLATIONS: dict[str, tuple[messages.ToReplica | bytes, ...]] = {
    "garbage": (b"\xff\x00 not a message",),
    "nothing": (b"",),
    "no such message": (b"\x91\xa5Gnome",),
    "two frames": (messages.Ping(1.0), messages.Ping(2.0)),
    "opened twice": (opening(),),
    "acknowledged what was never sent": (messages.Acknowledge(1 << 40),),
    "acknowledged less than nothing": (messages.Acknowledge(-1),),
    "number in use": (messages.Submit(1, request("new", 1), False),),
    "stream id in use": (messages.Submit(2, request("honest", 1), False),),
    "attached under a number in use": (messages.Attach(1, "honest", 0),),
}


@pytest.mark.parametrize("case", VIOLATIONS)
async def test_violation_costs_only_the_offender(case: str) -> None:
    async with (
        replica(tokens_per_s=500) as behind,
        raw_gateway(behind.address) as offender,
        gateway(behind.address) as other,
    ):
        honest = other.serve(request("honest", 250))
        await offender.open()
        await offender.send(messages.Submit(1, request("offender's", LONG), False))
        await soon(honest.grown(0))
        await eventually(lambda: behind.engine.load().running == 2)
        lost = behind.streams.get("offender's")

        await offender.send(*VIOLATIONS[case])

        await soon(lost.finished())
        assert lost.end is not None
        assert lost.end.is_aborted
        await finished(honest)
        assert honest.end is not None
        assert not honest.end.is_aborted
        assert honest.end.output_tokens == 250


async def test_failure_over_a_message_costs_only_its_sender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        replica() as behind,
        raw_gateway(behind.address) as unlucky,
        gateway(behind.address) as other,
    ):

        def attach(stream_id: str, after: int) -> Stream:
            raise RuntimeError("for the test")

        async def abort(stream_id: str) -> None:
            raise RuntimeError("for the test")

        monkeypatch.setattr(behind.engine, "attach", attach)
        monkeypatch.setattr(behind.engine, "abort", abort)
        await unlucky.open()
        await unlucky.send(messages.Submit(1, request("unlucky's", LONG), False))

        await unlucky.send(messages.Attach(2, "any", 0))
        await unlucky.send(messages.Ping(1.0))

        while not isinstance(await unlucky.receive(), messages.Bye):
            pass
        await finished(other.serve(request("honest", 50)))
        behind.server.check_health()


@pytest.mark.parametrize("loop", ["data plane receive", "data plane sweep"])
async def test_deaf_replica_is_not_healthy(loop: str) -> None:
    async with replica() as behind:
        behind.server.check_health()
        (task,) = (one for one in asyncio.all_tasks() if one.get_name() == loop)

        task.cancel()
        await soon(asyncio.wait([task]))

        with pytest.raises(EngineFailed, match=loop):
            behind.server.check_health()


STRANGERS: dict[str, messages.ToReplica] = {
    "another version": opening(messages.PROTOCOL_VERSION + 1),
    "not opened": messages.Ping(1.0),
}


@pytest.mark.parametrize("case", STRANGERS)
async def test_stranger_is_told_so(case: str) -> None:
    async with (
        replica() as behind,
        raw_gateway(behind.address) as stranger,
        gateway(behind.address) as other,
    ):
        await stranger.send(STRANGERS[case])
        await stranger.send(messages.Submit(1, request("stranger's", 1), True))

        assert isinstance(await stranger.receive(), messages.Bye)
        await finished(other.serve(request("honest", 50)))

        assert "stranger's" not in behind.streams


async def test_death_of_the_replica_is_noticed_at_once() -> None:
    losses: list[None] = []
    async with (
        replica(tokens_per_s=100) as behind,
        gateway(behind.address, on_lost=lambda: losses.append(None)) as remote,
    ):
        begun = remote.serve(request("begun", LONG))
        await soon(begun.grown(0))
        warming = asyncio.ensure_future(remote.warm([1, 2, 3]))
        rendering = asyncio.ensure_future(remote.render(request("never", 1)))
        await asyncio.sleep(0)
        unbegun = remote.serve(request("unbegun", LONG))

        await behind.server.close()

        for stream in (begun, unbegun, remote.serve(request("too late", 1))):
            await soon(stream.finished())
            assert stream.end is not None
            assert stream.end.failure is not None
            assert stream.end.failure.to_error().is_retryable
        for call in (warming, rendering, remote.render(request("too late", 1))):
            with pytest.raises(EngineLost):
                await soon(call)
        assert not remote.is_up
        assert remote.num_live_streams == 0
        assert len(losses) == 1
    assert len(losses) == 1


async def test_dead_engine_takes_no_more_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve needs longer to notice it, and the replica's process lives on."""
    settings = SETTINGS.model_copy(update={"ping_interval_s": 0.05})
    async with (
        replica(settings, tokens_per_s=100) as behind,
        gateway(behind.address, settings) as remote,
    ):
        begun = remote.serve(request("begun", LONG))

        def check() -> None:
            raise EngineFailed("it has died")

        monkeypatch.setattr(behind.engine, "check_health", check)

        with capture_logs() as logs:
            await soon(begun.finished())
            await eventually(lambda: not remote.is_up)
            with pytest.raises(EngineLost):
                async with gateway(behind.address, settings):
                    pass
        lost = [line["reason"] for line in logs if line["event"] == "replica_lost"]
        assert lost == ["it has died"] * 2
        assert [line["log_level"] for line in logs if line["event"] == "engine_died"] == ["error"]
        assert begun.end is not None
        assert begun.end.failure is not None


HEADER = encode(StreamHeader(200, "text/event-stream"))
NO_LOAD = EngineLoad()

NONSENSE: dict[str, messages.ToGateway | bytes] = {
    "garbage": b"\xff\x00 not a message",
    "a hole": messages.Step([Part(1, 7, HEADER)], NO_LOAD),
    "half a record": messages.Step([Part(1, 0, HEADER[:-1])], NO_LOAD),
    "no header": messages.Step([Part(1, 0, b"\x01\xc0")], NO_LOAD),
    "twice the same": messages.Step([Part(1, 0, HEADER), Part(1, 0, HEADER)], NO_LOAD),
    "no such mark": messages.encode(messages.Step([Part(1, 0, b"", ((99, 1.0),))], NO_LOAD)),  # type: ignore[arg-type]
    "another version": opened(messages.PROTOCOL_VERSION + 1),
}


@pytest.mark.parametrize("case", NONSENSE)
async def test_nonsense_from_the_replica_ends_the_link(case: str) -> None:
    losses: list[None] = []
    async with raw_replica() as behind, asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(behind.open())
        async with gateway(behind.address, on_lost=lambda: losses.append(None)) as remote:
            await opening
            stream = remote.serve(request("one", 1))
            await behind.receive(messages.Submit)

            await behind.send(NONSENSE[case])

            await soon(stream.finished())
            assert stream.end is not None
            assert stream.end.failure is not None
            assert stream.end.failure.to_error().is_retryable
            assert len(losses) == 1


async def test_replica_of_another_version_is_refused() -> None:
    async with raw_replica() as behind, asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(behind.open(version=messages.PROTOCOL_VERSION + 1))
        with pytest.raises(EngineLost):
            async with gateway(behind.address):
                pass
        await opening


async def test_news_of_unknown_streams_is_ignored() -> None:
    async with raw_replica() as behind, asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(behind.open())
        async with gateway(behind.address) as remote:
            await opening
            stream = remote.serve(request("one", 1))
            submitted = await behind.receive(messages.Submit)

            await behind.send(messages.Step([Part(99, 5, HEADER)], NO_LOAD))
            await behind.send(messages.Step([Part(submitted.stream, 0, HEADER)], NO_LOAD))

            await soon(stream.grown(0))
            assert stream.log.read(0) == HEADER
            assert remote.is_up


async def test_link_is_idle_when_its_replica_says_so() -> None:
    async with raw_replica() as behind, asyncio.TaskGroup() as tasks:
        tasks.create_task(behind.open())
        async with gateway(behind.address) as remote:
            stream = remote.serve(request("one", 1))
            submitted = await behind.receive(messages.Submit)
            stream.finish(StreamEnd(is_aborted=True))
            idle = tasks.create_task(remote.idle())

            await behind.send(
                messages.Step([Part(submitted.stream, 0, b"", (), StreamEnd())], NO_LOAD)
            )

            await soon(idle)
            assert remote.num_live_streams == 0
