"""Who may have a prompt thought about, with what, and when the engine is left alone."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headstart.configs.live import LiveSettings, ThinkingSettings
from headstart.pipeline.access import ANYONE
from tests.pipeline.live_client import live
from tests.pipeline.test_access import ALICE, BOB, auth, key, keys
from tests.pipeline.thinking import (
    FIRST,
    MIND,
    SECOND,
    answer_of,
    begun,
    outcomes,
    slow,
    think,
    thoughts_of,
    until_thought,
)
from tests.support.gateway import saying, serving, speeds
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def soon_cancelled(work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Let a request be made for as long as the block lasts."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_thoughts_of_one_model_and_an_answer_of_another() -> None:
    async with serving(speeds("fake"), speeds("wise", seed=7)) as gateway, live(gateway) as client:
        await think(client, thinker="wise", show_thoughts=True)
        await client.type(FIRST + "It")
        (thought,) = await until_thought(client, 1)
        await client.commit()
        small, wise = gateway.replicas
        assert [one.is_background for one in wise.requests] == [True]
        (asked,) = small.requests
        assert json.loads(asked.body)["model"] == "fake"
        assert thought["text"] in json.dumps(json.loads(asked.body), ensure_ascii=False)


async def test_no_thought_is_made_where_the_replica_is_busy() -> None:
    settings = LiveSettings(thinking=ThinkingSettings(max_running=0))
    async with serving(slow(), live=settings) as gateway, live(gateway) as client:
        asked = gateway.client.post("/v1/chat/completions", json=saying(max_tokens=2000))
        async with soon_cancelled(asked):
            await eventually(lambda: gateway.pool.choose("fake").load().running > 0)
            await think(client, show_thoughts=True)
            await client.type(FIRST + "It")
            await client.until("input_text.computed")
            session = gateway.live_prompts.get(client.seen[0]["session"]["id"], ANYONE)
            thinker = session.ahead.thinker
            assert thinker is not None
            waits_until = thinker._mind._blocked_until
            await eventually(lambda: thinker._mind._blocked_until > waits_until)
            assert not thoughts_of(gateway)
        await until_thought(client, 1)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"livemind": {"thinker": "nobody"}}, "model_not_found"),
    ({"livemind": {"actions": ["wait"]}}, "invalid_event"),
    ({"livemind": {"format": "u-pi"}}, "invalid_event"),
    ({"livemind": {"max_tokens": 0}}, "invalid_event"),
    ({"livemind": {"language": "../etc"}}, "invalid_event"),
    ({"livemind": {"at_commit": "guess"}}, "invalid_event"),
]


async def test_what_is_refused_changes_nothing() -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        for session, code in REFUSED:
            await client.say("session.update", session=MIND | session)
            assert (await client.error())["code"] == code, session
        await client.type(FIRST)
        answer, _ = await client.commit()
        assert answer
        assert [one["role"] for one in answer_of(gateway)["messages"]] == ["user"]


async def test_who_thinks_goes_on_after_a_change_that_is_refused() -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        await think(client, show_thoughts=True)
        for session, code in REFUSED:
            await client.say("session.update", session=session)
            assert (await client.error())["code"] == code, session
        await client.type(FIRST + "It")
        await until_thought(client, 1)


async def test_switched_off() -> None:
    settings = LiveSettings(thinking=ThinkingSettings(enabled=False))
    async with serving(speeds(), live=settings) as gateway, live(gateway) as client:
        await client.say("session.update", session=MIND)
        assert (await client.error())["code"] == "forbidden"


async def test_a_keys_budget() -> None:
    entries = (
        key(ALICE, live=True, thinking_tokens_per_minute=70),
        key(BOB, live=True, thinking_tokens_per_minute=0),
    )
    async with serving(speeds(), access=keys(*entries)) as gateway:
        async with live(gateway, additional_headers=auth(BOB)) as client:
            await client.say("session.update", session=MIND)
            assert (await client.error())["code"] == "forbidden"
        async with live(gateway, additional_headers=auth(ALICE)) as client:
            await think(client, show_thoughts=True)
            await client.type(FIRST + "It")
            await until_thought(client, 1)
            await client.type(SECOND[2:] + "When")
            await eventually(
                lambda: (
                    gateway.exposition().value(
                        "headstart_live_budget_waits_total", budget="thoughts", model="fake"
                    )
                    == 1
                )
            )
            assert len(thoughts_of(gateway)) == 1
            _, done = await client.commit()
            assert done["computed_ahead"]["thought_tokens"] == 64


async def test_an_answer_does_not_wait_for_a_thought_whose_prompt_waits_for_the_budget() -> None:
    settings = LiveSettings(thinking=ThinkingSettings(wait_s=40))
    access = keys(key(ALICE, live=True, live_tokens_per_minute=32))
    two = serving(access=access, live=settings)
    async with two as gateway, live(gateway, additional_headers=auth(ALICE)) as client:
        await think(client, at_commit="wait")
        await client.type("word " * 200 + FIRST + "It")
        (kept,) = gateway.live_prompts._kept.values()
        thinker = kept.session.ahead.thinker
        assert thinker is not None
        waits = "headstart_live_budget_waits_total"
        await eventually(lambda: thinker._mind.is_thinking)
        await eventually(
            lambda: gateway.exposition().value(waits, budget="warm", model="fake") == 2
        )
        answer, done = await client.commit()
        assert answer
        assert done["computed_ahead"]["waited_s"] < 20
        assert outcomes(gateway) == {"committed": 1}
        assert not thoughts_of(gateway)


async def test_a_key_has_only_its_own_models_think() -> None:
    access = keys(key(ALICE, live=True, models=("fake",)))
    two = serving(speeds("fake"), speeds("wise"), access=access)
    async with two as gateway, live(gateway, additional_headers=auth(ALICE)) as client:
        await client.say("session.update", session=MIND | {"livemind": {"thinker": "wise"}})
        assert (await client.error())["code"] == "forbidden"


async def test_a_replica_that_dies_while_it_thinks() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        await think(client)
        await client.type(FIRST + "It")
        await begun(gateway)
        await gateway.replica.die()
        await eventually(lambda: outcomes(gateway) == {"failed": 1})
        await client.type(" goes on.")
        assert client.seen[-1]["type"] == "input_text.appended"


async def test_every_thought_in_an_answers_prompt_is_about_the_text_before_it() -> None:
    """Whatever was edited: the engine was asked for it with exactly the head of that prompt."""
    settings = LiveSettings(
        thinking=ThinkingSettings(
            interval_s=0.0, min_chars=1, settle_s=0.01, tokens_per_minute=10**9, max_tokens=4
        )
    )
    chooser, num_thoughts = random.Random(5), 0
    model = speeds(tokens_per_s=0, time_to_first_token_s=0.002)
    async with serving(model, live=settings) as gateway, live(gateway) as client:
        await think(client, segments="clause")
        thinker = gateway.live_prompts.get(client.seen[0]["session"]["id"], ANYONE).ahead.thinker
        assert thinker is not None
        for _ in range(10):
            length = 0
            for _ in range(chooser.randrange(3, 12)):
                if length and chooser.random() < 0.3:
                    start = chooser.randrange(length)
                    end = min(length, start + chooser.randrange(1, 9))
                    edit = {"start": start, "end": end, "text": chooser.choice(["", "x", "No. "])}
                    await client.say("input_text.replace", **edit)
                    length = (await client.until("input_text.replaced"))["num_chars"]
                else:
                    text = chooser.choice(["It is late. ", "Why, then, go? ", "half a ", "z, "])
                    length = (await client.type(text))["num_chars"]
                if chooser.random() < 0.4:
                    await eventually(lambda: thinker._mind.deadline() is None)
            _, done = await client.commit() if length else ("", {})
            if not done:
                continue
            assert done["response"]["status"] == "completed"
            await client.say("session.update", session={"messages": []})
            messages = answer_of(gateway)["messages"]
            asked = [json.loads(one.body)["messages"] for one in thoughts_of(gateway)]
            for place, message in enumerate(messages):
                if message["role"] == "assistant":
                    num_thoughts += 1
                    assert messages[:place] in asked
    assert num_thoughts > 10
