"""What live prompts may take: places, room, keys, and what is computed ahead for them."""

import asyncio
import gc
import tracemalloc
from functools import partial
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from headstart.configs.live import LiveSettings
from headstart.configs.serving import GatewaySettings
from headstart.pipeline.access import ANYONE
from headstart.pipeline.live_events import Append, Clear
from headstart.pipeline.live_session import LiveSession
from headstart.pipeline.live_warmer import LiveWarmer
from tests.pipeline.live_client import is_usable, live
from tests.pipeline.test_access import ALICE, BOB, auth, key, keys
from tests.support.gateway import Gateway, serving, speeds
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_no_more_sessions_than_there_may_be() -> None:
    async with serving(live=LiveSettings(max_sessions=1)) as gateway, live(gateway) as client:
        await client.next()
        async with live(gateway) as another:
            assert (await another.error())["type"] == "ServiceUnavailableError"
        assert (await gateway.client.post("/v1/live")).status_code == 503
        await is_usable(client)


async def test_no_key_takes_every_place() -> None:
    access = keys(key(ALICE, live=True), key(BOB, live=True))
    async with serving(access=access, live=LiveSettings(max_sessions=4)) as gateway:

        async def begin(name: str) -> int:
            answer = await gateway.client.post("/v1/live", headers=auth(name))
            return int(answer.status_code)

        assert [await begin(ALICE) for _ in range(3)] == [201, 201, 429]
        assert [await begin(BOB) for _ in range(2)] == [201, 429]
        for kept in list(gateway.live_prompts._kept.values())[:2]:
            gateway.live_prompts.end(kept.session)
        assert await begin(ALICE) == 201


@pytest.mark.parametrize("num_places", [1, 2])
async def test_every_key_may_have_a_place_as_long_as_there_is_one(num_places: int) -> None:
    access = keys(key(ALICE, live=True), key(BOB, live=True))
    async with serving(access=access, live=LiveSettings(max_sessions=num_places)) as gateway:

        async def begin(name: str) -> int:
            answer = await gateway.client.post("/v1/live", headers=auth(name))
            return int(answer.status_code)

        expected = [201, 503, 503] if num_places == 1 else [201, 429, 201]
        assert [await begin(name) for name in (ALICE, ALICE, BOB)] == expected


async def test_a_session_that_is_refused_takes_no_place() -> None:
    access = keys(key(ALICE, live=True, models=("another",)))
    async with serving(access=access) as gateway:
        free = gateway.live_prompts._places.free_bytes
        answer = await gateway.client.post("/v1/live", headers=auth(ALICE))
        assert answer.json()["error"]["code"] == "forbidden"
        assert gateway.live_prompts._places.free_bytes == free


async def test_no_key_takes_all_the_room() -> None:
    access = keys(key(ALICE, live=True), key(BOB, live=True))
    limits = LiveSettings(max_total_chars=2048)
    async with serving(access=access, live=limits) as gateway:

        async def begin(name: str, num_chars: int, **session: Any) -> int:
            body = {"text": "x" * num_chars, "session": session}
            answer = await gateway.client.post("/v1/live", headers=auth(name), json=body)
            return int(answer.status_code)

        assert await begin(ALICE, 2049) == 503
        assert await begin(ALICE, 1025) == 429
        assert await begin(ALICE, 0, instructions="x" * 1025) == 429
        assert await begin(ALICE, 600) == 201
        assert await begin(ALICE, 600) == 429
        assert await begin(BOB, 600) == 201
        for kept in list(gateway.live_prompts._kept.values()):
            kept.session.edit(Clear())
        assert await begin(ALICE, 900) == 201
        assert len(gateway.live_prompts) == 3
        async with live(gateway, additional_headers=auth(ALICE)) as client:
            await client.type("a")
            await client.say("input_text.append", text="x" * 900)
            assert (await client.error())["type"] == "RateLimitError"
            await is_usable(client)


async def test_an_answer_takes_its_room_also_where_there_is_none() -> None:
    limits = LiveSettings(max_total_chars=2048)
    async with serving(speeds(answer_tokens=1000), live=limits) as gateway:
        room = gateway.live_prompts._services.shares.chars
        async with live(gateway) as client, live(gateway) as another:
            await client.type("Name three colours.")
            answer, _ = await client.commit()
            assert room.free_bytes <= 2048 - len(answer) < 0
            for one in (client, another):
                await one.say("input_text.append", text="a")
                assert (await one.error())["type"] == "ServiceUnavailableError"
            await client.say("session.update", session={"messages": []})
            await client.until("session.updated")
            await another.type("a")
            for kept in list(gateway.live_prompts._kept.values()):
                gateway.live_prompts.end(kept.session)
            await eventually(lambda: room.free_bytes == 2048)


async def test_a_keys_prompts_are_rendered_a_few_at_a_time(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, now, most = LiveWarmer._planned, [0], [0]

    async def counted(warmer: LiveWarmer) -> Any:
        now[0] += 1
        most[0] = max(most[0], now[0])
        try:
            return await whole(warmer)
        finally:
            now[0] -= 1

    monkeypatch.setattr(LiveWarmer, "_planned", counted)
    sessions = [gateway.live_prompts.create(ANYONE) for _ in range(30)]
    for session in sessions:
        session.start()
    await eventually(lambda: all(one.progress.prompt_tokens for one in sessions))
    assert 1 < most[0] <= LiveSettings().max_renders


async def test_live_prompts_can_be_switched_off() -> None:
    async with serving(live=LiveSettings(enabled=False)) as gateway:
        with pytest.raises(InvalidStatus):
            async with live(gateway):
                pass
        assert (await gateway.client.post("/v1/live")).status_code == 404


async def test_only_keys_that_are_meant_to_may() -> None:
    access = keys(key(ALICE, live=True), key(BOB))
    async with serving(access=access) as gateway:
        with pytest.raises(InvalidStatus):
            async with live(gateway):
                pass
        async with live(gateway, additional_headers=auth(BOB)) as client:
            assert (await client.error())["type"] == "PermissionDeniedError"
        async with live(gateway, additional_headers=auth(ALICE)) as client:
            created = await client.next()
            await is_usable(client)
            path = f"/v1/live/{created['session']['id']}"
            assert (await gateway.client.get(path, headers=auth(ALICE))).status_code == 200
            assert (await gateway.client.get(path, headers=auth(BOB))).status_code == 403
            assert (await gateway.client.get(path)).status_code == 401
        offered = ["realtime", f"openai-insecure-api-key.{ALICE}"]
        async with live(gateway, subprotocols=offered) as client:
            assert client.socket.subprotocol == "realtime"
            await is_usable(client)


async def test_nothing_is_computed_ahead_on_a_model_outside_the_keys_scope() -> None:
    access = keys(key(ALICE, live=True, models=("small",)))
    body = {"session": {"model": "fake"}, "text": "Name three colours."}
    async with serving(speeds("fake"), speeds("small"), access=access) as gateway:
        answer = await gateway.client.post("/v1/live", json=body, headers=auth(ALICE))

        assert answer.status_code == 403
        assert answer.json()["error"]["param"] == "model"
        assert not len(gateway.live_prompts)
        async with live(gateway, "?model=fake", additional_headers=auth(ALICE)) as client:
            assert (await client.error())["type"] == "PermissionDeniedError"


async def test_another_key_has_no_use_for_an_id() -> None:
    access = keys(key(ALICE, live=True), key(BOB, live=True))
    alice: Any = {"additional_headers": auth(ALICE)}
    async with serving(access=access) as gateway, live(gateway, **alice) as client:
        created = await client.next()
        query = f"?session={created['session']['id']}"
        async with live(gateway, query, additional_headers=auth(BOB)) as another:
            assert (await another.error())["type"] == "NotFoundError"
        await is_usable(client)


async def test_pages_of_other_origins_are_refused() -> None:
    allowed = GatewaySettings(cors_origins=("https://chat.example.org",), shutdown_grace_s=0)
    async with serving(settings=allowed) as gateway:
        for origin in ("https://evil.example", "null"):
            with pytest.raises(InvalidStatus):
                async with live(gateway, origin=origin):
                    pass
        for origin in ("https://chat.example.org", gateway.url):
            async with live(gateway, origin=origin) as client:
                await client.next()


async def test_the_key_has_a_budget_for_what_is_computed_ahead() -> None:
    access = keys(key(ALICE, live=True, live_tokens_per_minute=64))
    alice: Any = {"additional_headers": auth(ALICE)}
    async with serving(access=access) as gateway, live(gateway, **alice) as client:
        await client.type("word " * 400)
        await client.until_warm(64)
        await eventually(lambda: gateway.replica.engine.load().running == 0)
        answer, done = await client.commit()

    assert answer
    assert done["computed_ahead"]["tokens"] <= 96


MOST_BYTES = 64_000
"""That an idle session with 4,000 characters may take: its text, and the ids that are computed; it
takes half of that."""


def typed(number: int) -> str:
    """4,000 characters, other ones in each session."""
    return " ".join(f"{number}-{at}" for at in range(800))[:4000]


def memory_of_ours() -> int:
    """Bytes that Python holds, without what the fake engine in this process has cached."""
    gc.collect()
    held = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, "*fake_cache.py")])
    return sum(one.size for one in held.statistics("filename"))


async def test_500_idle_sessions_pin_nothing_and_take_little() -> None:
    async with serving(speeds(time_to_first_token_s=0.0, tokens_per_s=0.0)) as gateway:
        await have_500_idle_sessions(gateway)


async def have_500_idle_sessions(gateway: Gateway) -> None:
    tasks_before = len(asyncio.all_tasks())
    sessions: list[LiveSession] = []

    def is_warm(session: LiveSession) -> bool:
        done = session.progress
        return done.warm_tokens > max(256, done.stable_tokens - 32)

    async def type_into(num_more: int) -> None:
        for _ in range(num_more):
            sessions.append(gateway.live_prompts.create(ANYONE))
            sessions[-1].start()
            sessions[-1].edit(Append(text=typed(len(sessions))))
        for session in sessions[-num_more:]:
            await eventually(partial(is_warm, session), within_s=60)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks_before + 2, within_s=30)

    await type_into(400)
    tracemalloc.start()
    try:
        before = memory_of_ours()
        await type_into(100)
        grown = (memory_of_ours() - before) / 100
    finally:
        tracemalloc.stop()

    assert {len(session.text) for session in sessions} == {4000}
    assert 4000 < grown < MOST_BYTES, grown
    load = gateway.replica.engine.load()
    assert (load.running, load.waiting) == (0, 0)  # only rows hold blocks
    assert len(gateway.live_prompts) == 500
