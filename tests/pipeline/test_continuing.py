"""Detached answers outlive replicas, links and gateways; plain ones end with an error."""

import asyncio
import json

import httpx
import pytest

from headstart.cluster.engine import EngineInfo
from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.replica_pool import ReplicaPool
from headstart.cluster.stream import Stream
from headstart.monitoring.labels import Rescue
from tests.support.events import events, text
from tests.support.gateway import (
    CHAT,
    DATA_PLANE,
    Gateway,
    Replica,
    saying,
    serving,
    speeds,
    table,
)
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

DETACHED = {"x-headstart-detach": "1"}
SLOW = speeds(tokens_per_s=100.0)
TOKENS = 60
ASKED = saying(stream=True, max_tokens=TOKENS, stream_options={"include_usage": True})


async def reference() -> str:
    async with serving(speeds()) as gateway:
        return text(await gateway.stream(json=ASKED))


async def grown(gateway: Gateway) -> Stream:
    """Wait until the one answer in the making has some frames."""
    await eventually(lambda: len(gateway.streams.live) == 1)
    stream = gateway.live
    await soon(stream.until(lambda: len(list(stream.log.frames(0))) > 8))
    return stream


def making(gateway: Gateway) -> Replica:
    (found,) = (one for one in gateway.replicas if one.engine.load().running)
    return found


def outcomes(pool: ReplicaPool) -> list[Rescue]:
    """Collect what the pool's answers go through."""
    found: list[Rescue] = []
    pool.continuity.on_rescue = lambda _model, rescue: found.append(rescue)
    return found


async def test_detached_answer_goes_on_elsewhere() -> None:
    async with serving(SLOW, SLOW) as gateway:
        found = outcomes(gateway.pool)
        asking = asyncio.ensure_future(gateway.stream(json=ASKED, headers=DETACHED))
        stream = await grown(gateway)
        before, header = stream.log.read(0), stream.log.header

        await making(gateway).die()

        body = await soon(asking)
        assert stream.log.starts_with(before)
        assert stream.log.header == header
        assert text(body) == await reference()
        *_, usage, done = events(body)
        assert json.loads(usage.data)["usage"]["completion_tokens"] == TOKENS
        assert done.data == "[DONE]"
        assert found == [Rescue.MOVED]
        assert stream.end is not None
        assert stream.end.output_tokens == TOKENS


async def test_plain_answer_ends_beside_a_detached_one() -> None:
    async with serving(SLOW, SLOW) as gateway:
        gateway.pool.update([gateway.table[0]])
        await eventually(lambda: len(gateway.pool.up("fake")) == 1)
        plain = asyncio.ensure_future(gateway.stream(json=ASKED))
        detached = asyncio.ensure_future(gateway.stream(json=ASKED, headers=DETACHED))
        await eventually(lambda: gateway.replicas[0].engine.load().running == 2)
        gateway.pool.update(gateway.table)
        await eventually(lambda: len(gateway.pool.up("fake")) == 2)

        await gateway.replicas[0].die()

        *_, error, end = events(await soon(plain))
        assert json.loads(error.data)["error"]["code"] == httpx.codes.SERVICE_UNAVAILABLE
        assert end.data == "[DONE]"
        assert text(await soon(detached)) == await reference()


async def test_whole_detached_answer_is_made_again() -> None:
    async with serving(SLOW, SLOW) as gateway:
        asked = saying(max_tokens=TOKENS)
        asking = asyncio.ensure_future(gateway.client.post(CHAT, json=asked, headers=DETACHED))
        await eventually(lambda: sum(one.engine.load().running for one in gateway.replicas) == 1)

        await making(gateway).die()

        answer = (await soon(asking)).json()
        assert answer["choices"][0]["message"]["content"] == await reference()
        assert answer["usage"]["completion_tokens"] == TOKENS


async def test_answer_waits_for_a_replica() -> None:
    async with serving(SLOW, SLOW) as gateway:
        gateway.pool.update([gateway.table[0]])
        asking = asyncio.ensure_future(gateway.stream(json=ASKED, headers=DETACHED))
        await grown(gateway)
        await gateway.replicas[0].die()
        await eventually(lambda: not gateway.pool.up("fake"))

        gateway.pool.update([gateway.table[1]])

        assert text(await soon(asking)) == await reference()


async def test_answer_is_given_up_in_time() -> None:
    settings = DATA_PLANE.model_copy(update={"failover_wait_s": 0.05})
    async with serving(SLOW, data_plane=settings) as gateway:
        found = outcomes(gateway.pool)
        asking = asyncio.ensure_future(gateway.stream(json=ASKED, headers=DETACHED))
        await grown(gateway)

        await gateway.replica.die()

        *_, error, end = events(await soon(asking))
        assert json.loads(error.data)["error"]["code"] == httpx.codes.SERVICE_UNAVAILABLE
        assert (error.id, end.data) == (None, "[DONE]")
        assert found == [Rescue.GIVEN_UP]


async def test_answer_that_loses_too_many_replicas_is_given_up() -> None:
    settings = DATA_PLANE.model_copy(update={"max_failovers": 1})
    async with serving(SLOW, SLOW, SLOW, data_plane=settings) as gateway:
        found = outcomes(gateway.pool)
        asking = asyncio.ensure_future(gateway.stream(json=ASKED, headers=DETACHED))
        stream = await grown(gateway)
        for _ in range(2):
            await making(gateway).die()
            after = stream.log.end
            await soon(stream.grown(after))

        *_, error, _end = events(await soon(asking))
        assert "2 replicas were lost" in json.loads(error.data)["error"]["message"]
        assert found == [Rescue.MOVED, Rescue.GIVEN_UP]


async def test_waiting_answer_can_be_cancelled() -> None:
    async with serving(SLOW) as gateway:
        asking = asyncio.ensure_future(gateway.stream(json=ASKED, headers=DETACHED))
        stream = await grown(gateway)
        await gateway.replica.die()
        await eventually(lambda: not gateway.pool.up("fake"))

        await soon(gateway.client.delete(f"/v1/streams/{stream.id}"))

        *_, error, _end = events(await soon(asking))
        assert json.loads(error.data)["error"]["type"] == "CancelledError"


async def test_lost_link_is_taken_up_where_the_log_ends() -> None:
    async with serving(SLOW) as gateway:
        found = outcomes(gateway.pool)
        asking = asyncio.ensure_future(gateway.stream(json=ASKED, headers=DETACHED))
        stream = await grown(gateway)
        (link,) = gateway.pool.up("fake")

        link._lose("for the test")

        assert text(await soon(asking)) == await reference()
        assert found == [Rescue.TAKEN_UP]
        assert len(gateway.replica.requests) == 1
        assert stream.failure is None


async def test_new_gateway_reads_what_the_old_one_asked_for() -> None:
    async with serving(SLOW) as old:
        asking = asyncio.ensure_future(old.stream(json=ASKED, headers=DETACHED))
        stream = await grown(old)
        finished = await old.stream(json=saying(stream=True), headers=DETACHED)
        (over,) = (one for one in old.streams.detached if one.end is not None)
        cursor = stream.log.end
        async with serving(is_connected=False, streams=table()) as new:
            readers = [
                asyncio.ensure_future(new.client.get(f"/v1/streams/{one}", params=params))
                for one, params in (
                    (stream.id, {"after": cursor}),
                    (stream.id, {}),
                    (over.id, {}),
                    ("never-was", {}),
                )
            ]
            new.pool.update(old.table)

            rest, whole, again, unknown = await soon(asyncio.gather(*readers))

            body = await soon(asking)
            assert whole.content == body
            assert body.endswith(rest.content)
            assert len(rest.content) < len(body)
            assert again.content == finished
            assert unknown.status_code == httpx.codes.NOT_FOUND
            (mirror,) = (one for one in new.streams.detached if one.id == stream.id)
            timing = (await soon(new.client.get(f"/v1/streams/{mirror.id}/timing"))).json()
            assert timing["is_finished"]


async def test_nothing_is_unknown_while_stock_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is up a moment before the gateway knows what its replica has."""
    counting = asyncio.Event()
    start = RemoteEngine.start

    async def held(link: RemoteEngine) -> EngineInfo:
        info = await start(link)
        await counting.wait()
        return info

    async with serving() as old:
        finished = await old.stream(json=saying(stream=True), headers=DETACHED)
        (over,) = old.streams.detached
        monkeypatch.setattr(RemoteEngine, "start", held)
        async with serving(is_connected=False, streams=table()) as new:
            new.pool.update(old.table)
            await eventually(lambda: len(new.pool.up("fake")) == 1)
            settling = asyncio.ensure_future(new.pool.settled())
            reading = asyncio.ensure_future(new.client.get(f"/v1/streams/{over.id}"))
            await asyncio.sleep(0)
            assert not settling.done()

            counting.set()

            assert (await soon(reading)).content == finished
            await soon(settling)


async def test_new_gateway_cancels_what_the_old_one_asked_for() -> None:
    async with serving(SLOW) as old:
        asking = asyncio.ensure_future(old.stream(json=ASKED, headers=DETACHED))
        stream = await grown(old)
        async with serving(is_connected=False, streams=table()) as new:
            new.pool.update(old.table)

            answer = await soon(new.client.delete(f"/v1/streams/{stream.id}"))

            assert answer.status_code == httpx.codes.NO_CONTENT
            await old.replica.idle(within_s=5)
            assert b"CancelledError" in await soon(asking)


async def test_new_gateway_moves_what_the_old_one_asked_for() -> None:
    """The replica keeps the request for it."""
    async with serving(SLOW, SLOW) as old:
        asking = asyncio.ensure_future(old.stream(json=ASKED, headers=DETACHED))
        stream = await grown(old)
        async with serving(is_connected=False, streams=table()) as new:
            new.pool.update(old.table)
            await eventually(lambda: len(new.streams.live) == 1)
            reading = asyncio.ensure_future(new.client.get(f"/v1/streams/{stream.id}"))
            old.pool.update([])
            await old.pool.continuity.close()

            await making(old).die()

            assert text((await soon(reading)).content) == await reference()
        await soon(asking)


async def test_replica_whose_link_is_opened_again_has_not_answered_yet() -> None:
    async with serving(SLOW) as gateway:
        (link,) = gateway.pool.up("fake")
        link._lose("for the test")
        assert not gateway.pool.up("fake")

        await soon(gateway.pool.settled())

        assert gateway.pool.up("fake")


async def test_whole_answer_is_the_same_for_who_polls() -> None:
    async with serving() as gateway:
        answer = await gateway.client.post(CHAT, json=saying(), headers=DETACHED)
        path = f"/v1/streams/{answer.headers['x-headstart-stream']}"

        polled = await soon(gateway.client.get(path, params={"wait": 1}))

        assert polled.headers["content-type"] == answer.headers["content-type"]
        assert polled.content == answer.content
