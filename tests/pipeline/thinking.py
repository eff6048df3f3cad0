"""What tests of LiveMind in a live session ask for, and look at."""

import json
from contextlib import AbstractAsyncContextManager
from typing import Any

from headstart.cluster.engine import EngineRequest
from headstart.configs.live import LiveSettings, ThinkingSettings
from headstart.configs.model_settings import ModelSettings
from headstart.stages.mind_events import ThoughtOutcome
from tests.pipeline.live_client import LiveClient
from tests.support.gateway import Gateway, serving, speeds
from tests.support.waiting import eventually

FIRST, SECOND, THIRD = (
    "The train leaves at noon. ",
    "It takes an hour and a half. ",
    "When is it there?",
)
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


def slow() -> ModelSettings:
    """A model whose thoughts take seconds."""
    return speeds(tokens_per_s=20.0)


def endless() -> AbstractAsyncContextManager[Gateway]:
    """A gateway whose thoughts end when they are stopped, however busy the machine is."""
    patient = ThinkingSettings().model_copy(update={"wait_s": 1e6})
    return serving(speeds(tokens_per_s=1e-3), live=LiveSettings(thinking=patient))


def outcomes(gateway: Gateway) -> dict[str, float]:
    """How many thoughts came to what; those that came to nothing are left out."""
    found = gateway.exposition()
    counted = {
        one: found.value("headstart_live_thoughts_total", outcome=one, model="fake")
        for one in ThoughtOutcome
    }
    return {str(one): count for one, count in counted.items() if count}


async def begun(gateway: Gateway, num_thoughts: int = 1) -> None:
    """Wait until the engine makes a thought."""
    await eventually(lambda: len(thoughts_of(gateway)) >= num_thoughts)
    await eventually(lambda: gateway.replica.engine.load().running > 0)
