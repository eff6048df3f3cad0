"""A prompt that is thought about while it is typed: LiveMind in a live session."""

import json
from typing import Any

import msgspec
import pytest

from headstart.cluster.engine import EngineRequest
from tests.pipeline.live_client import LiveClient, live
from tests.support.gateway import Gateway, serving, speeds
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

FIRST, SECOND, THIRD = "The train leaves at noon. ", "It takes an hour. ", "When is it there?"
MIND = {"mode": "livemind"}


def thoughts_of(gateway: Gateway) -> list[EngineRequest]:
    return [one for one in gateway.replica.requests if one.is_background]


def answer_of(gateway: Gateway) -> dict[str, Any]:
    """The body of the latest request that is no thought."""
    asked = [one for one in gateway.replica.requests if not one.is_background]
    body: dict[str, Any] = json.loads(asked[-1].body)
    return body


def said_in(body: dict[str, Any], role: str) -> list[str]:
    return [one["content"] for one in body["messages"] if one["role"] == role]


async def think(client: LiveClient, **livemind: Any) -> None:
    await client.say("session.update", session={**MIND, "livemind": livemind})
    updated = await client.until("session.updated")
    assert updated["session"]["mode"] == "livemind"


async def until_thought(client: LiveClient, num_thoughts: int) -> list[dict[str, Any]]:
    while True:
        event = await client.until("input_text.reasoning")
        if len(event["thoughts"]) >= num_thoughts:
            thoughts: list[dict[str, Any]] = event["thoughts"]
            return thoughts


async def test_a_thought_is_in_the_answers_prompt() -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        await think(client, show_thoughts=True)
        await client.type(FIRST + "It")
        (thought,) = await until_thought(client, 1)
        await client.type(" takes an hour.")
        answer, done = await client.commit()

        assert answer
        assert thought["end"] == len(FIRST)
        body = answer_of(gateway)
        assert said_in(body, "assistant") == [f"action inference. {thought['text']}"]
        assert said_in(body, "user") == [FIRST, "It takes an hour. [end]"]
        assert done["computed_ahead"]["thoughts"] == 1
        assert done["computed_ahead"]["thought_tokens"] == 64  # as many as it may
        (asked,) = thoughts_of(gateway)
        assert json.loads(asked.body)["messages"] == body["messages"][:2]
