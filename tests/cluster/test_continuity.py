"""Answers that only a replica has, over links that come and go at the wrong moment."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from headstart.cluster import continuity, messages
from headstart.cluster.continuity import Continuity
from headstart.cluster.engine import EngineLoad
from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.stream import StreamTable
from headstart.stages.errors import EngineUnavailable, NotFound
from headstart.stages.frames import Channel, Frame, StreamHeader, encode
from headstart.stages.mirror import Part, StreamEnd
from headstart.stages.retention import Retention
from tests.cluster.data_plane_peers import SETTINGS, raw_replica, replica, request
from tests.support.streams import finished
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

TTL_S = 300.0
HEADER = encode(StreamHeader(200, "text/event-stream"))
LOG = HEADER + encode(Frame(0, Channel.CONTENT, "whole", (1,), 0))


class Gateway:
    """A gateway's answers, and its links to one replica, opened by hand."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.clock_s = 0.0
        self.streams = StreamTable(Retention(TTL_S, 1 << 28), 1 << 24, lambda: self.clock_s)
        self.continuity = Continuity(self, self.streams, SETTINGS)
        self._links: list[RemoteEngine] = []
        self.others = asyncio.Event()
        self.others.set()
        self.reachable = asyncio.Event()
        self.reachable.set()

    async def link(self) -> RemoteEngine:
        """Open a link, and do not take stock yet."""
        link = RemoteEngine(
            self.address,
            self.streams,
            SETTINGS,
            on_orphans=lambda streams: self.continuity.orphaned(link, streams),
        )
        self._links.append(link)
        await soon(link.start())
        return link

    async def open(self) -> RemoteEngine:
        """Open a link and take stock of what its replica has."""
        link = await self.link()
        self.continuity.opened(link, "fake")
        return link

    async def close(self) -> None:
        await self.continuity.close()
        for link in self._links:
            await link.close()

    async def available(self, model: str, avoid: RemoteEngine | None) -> RemoteEngine:
        """Return the newest link."""
        return self._links[-1]

    async def at(self, address: str) -> RemoteEngine:
        """Return the newest link, once the replica can be reached."""
        assert address == self.address
        await self.reachable.wait()
        return self._links[-1]

    async def settled(self) -> None:
        """Wait for what somebody else has yet to answer; by default for nothing."""
        await self.others.wait()


@asynccontextmanager
async def gateway(address: str) -> AsyncIterator[Gateway]:
    """Know of a replica."""
    known = Gateway(address)
    try:
        yield known
    finally:
        await known.close()


async def test_two_readers_of_an_answer_that_a_replica_keeps() -> None:
    async with replica() as behind:
        async with gateway(behind.address) as old:
            link = await old.open()
            made = await finished(link.serve(request("one", 50), is_detached=True))
        async with gateway(behind.address) as new:
            await new.open()

            finding = (new.continuity.find("one", made.log.end) for _ in range(2))
            first, second = await soon(asyncio.gather(*finding))

            assert first is second
            assert first.log.read(0) == made.log.read(0)


async def test_answer_cut_while_it_is_fetched_is_fetched_again() -> None:
    async with raw_replica() as behind, gateway(behind.address) as new, asyncio.TaskGroup() as run:
        run.create_task(behind.open(messages.Kept("one", len(LOG), is_live=False)))
        link = await new.open()
        reading = run.create_task(new.continuity.find("one"))
        asked = await behind.receive(messages.Attach)
        await behind.send(messages.Step([Part(asked.stream, 0, HEADER)], EngineLoad()))
        await soon(new.streams.get("one").grown(0))
        link._lose("for the test")
        cut = await soon(reading)
        assert cut.failure is not None
        assert cut.failure.error == "EngineLost"

        run.create_task(behind.open())
        await new.open()
        reading = run.create_task(new.continuity.find("one", len(LOG)))
        asked = await behind.receive(messages.Attach)
        await behind.send(
            messages.Step([Part(asked.stream, 0, LOG, (), StreamEnd())], EngineLoad())
        )

        again = await soon(reading)
        assert again.log.read(0) == LOG
        assert again.failure is None


async def test_cancelled_answer_is_not_taken_up_by_another_link() -> None:
    async with (
        raw_replica() as behind,
        gateway(behind.address) as known,
        asyncio.TaskGroup() as run,
    ):
        run.create_task(behind.open())
        link = await known.open()
        stream = known.continuity.serve(link, "fake", request("one", 5), is_detached=True)
        await behind.receive(messages.Submit)

        await known.continuity.abort(stream)
        link._lose("for the test")

        assert stream.end == StreamEnd(is_aborted=True)
        assert known.continuity.num_live == 0
        run.create_task(behind.open(messages.Kept("one", 0, is_live=True)))
        await known.open()
        assert (await behind.receive(messages.Abort)).stream_id == "one"


async def test_link_lost_as_it_opens_leaves_its_answers_to_the_next() -> None:
    async with raw_replica() as behind, gateway(behind.address) as new, asyncio.TaskGroup() as run:
        kept = [messages.Kept(name, 0, is_live=True) for name in ("one", "two")]
        run.create_task(behind.open(*kept))
        link = await new.link()
        link._lose("for the test")
        new.continuity.opened(link, "fake")
        assert new.continuity.num_live == 0

        run.create_task(behind.open(*kept))
        await new.open()

        assert new.continuity.num_live == 2
        assert {(await behind.receive(messages.Attach)).stream_id for _ in kept} == {"one", "two"}


async def test_requests_of_what_a_replica_had_are_not_kept_twice() -> None:
    asked = request("one", 5)
    async with raw_replica() as behind, gateway(behind.address) as new, asyncio.TaskGroup() as run:
        run.create_task(
            behind.open(
                messages.Kept("one", 0, is_live=True, request=asked),
                messages.Kept("two", len(LOG), is_live=False),
            )
        )
        await new.open()
        assert new.streams.get("one").request == asked
        new.streams.get("one").finish(StreamEnd(is_aborted=True))
        asked_for = await behind.receive(messages.Attach)
        assert asked_for.stream_id == "one"

        gc.collect()
        assert not [one for one in gc.get_objects() if type(one) is messages.Kept]


async def test_nothing_is_unknown_before_everyone_has_been_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(continuity, "_FIND_S", 0.01)
    async with raw_replica() as behind, gateway(behind.address) as known:
        known.others.clear()
        with pytest.raises(EngineUnavailable, match="not known yet"):
            await soon(known.continuity.find("one"))

        known.others.set()

        with pytest.raises(NotFound):
            await soon(known.continuity.find("one"))


async def test_answer_of_a_replica_that_cannot_be_reached_is_not_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(continuity, "_FIND_S", 0.05)
    async with replica() as behind:
        async with gateway(behind.address) as old:
            link = await old.open()
            made = await finished(link.serve(request("one", 50), is_detached=True))
        async with gateway(behind.address) as new:
            await new.open()
            new.reachable.clear()
            with pytest.raises(EngineUnavailable, match="does not answer"):
                await soon(new.continuity.find("one"))

            new.reachable.set()
            monkeypatch.setattr(continuity, "_FIND_S", 60.0)

            found = await soon(new.continuity.find("one", made.log.end))
            assert found.log.read(0) == made.log.read(0)


async def test_finished_answers_elsewhere_are_forgotten_when_they_have_expired_there() -> None:
    async with raw_replica() as behind, gateway(behind.address) as new, asyncio.TaskGroup() as run:
        kept = [messages.Kept(name, len(LOG), is_live=name == "live") for name in ("live", "one")]
        run.create_task(behind.open(*kept))
        await new.open()
        new.clock_s = TTL_S - 1
        new.continuity.expire()
        assert set(new.continuity._elsewhere) == {"live", "one"}

        run.create_task(behind.open(messages.Kept("one", len(LOG), is_live=False)))
        await new.open()
        new.clock_s = TTL_S
        new.continuity.expire()
        assert set(new.continuity._elsewhere) == {"live", "one"}

        new.clock_s = 2 * TTL_S
        new.continuity.expire()
        assert set(new.continuity._elsewhere) == {"live"}
        with pytest.raises(NotFound):
            await new.continuity.find("one")
