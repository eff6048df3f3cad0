"""Live prompts are computed where a model drafts for their language, thoughts drafted as they ask.

The engines are fakes: what is drafted is their business.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headstart.stages.routing import Routed
from tests.pipeline.live_client import LiveClient, live
from tests.pipeline.test_pools_by_language import (
    FRENCH,
    GERMAN,
    IN_GERMAN,
    routed,
    three_pools,
)
from tests.pipeline.thinking import MIND, until_thought
from tests.support.gateway import Gateway
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

LONG = " ".join([GERMAN] * 3)
NUMBERS = "12 + 30 = 42; " * 40
SPOKEN_OF = {"sampling": {"headstart": {"language": "de"}}}
INSTRUCTED = {"instructions": " ".join(f"rule{number}" for number in range(200))}
COMMON, DE, NL = range(3)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """The common replica, the one for German, and the one for Dutch."""
    async with three_pools() as gateway:
        yield gateway


def place_of(gateway: Gateway) -> int:
    """Which replica computes the only session's text."""
    (kept,) = gateway.live_prompts._kept.values()
    link = kept.session.ahead.warmer.link
    assert link is not None
    return [each.address for each in gateway.table].index(link.address)


async def configure(client: LiveClient, session: dict[str, Any]) -> None:
    await client.say("session.update", session=session)
    await client.until("session.updated")


async def answered_by(client: LiveClient, gateway: Gateway) -> int:
    """Send off; return which replica answered, having had some of the prompt in its cache."""
    before = [len(replica.requests) for replica in gateway.replicas]
    _, done = await client.commit()
    assert done["timing"]["cached_prompt_tokens"] >= 32
    after = [len(replica.requests) for replica in gateway.replicas]
    (changed,) = (at for at, count in enumerate(after) if count > before[at])
    return changed


@pytest.mark.parametrize("session", [SPOKEN_OF, {}])
async def test_the_first_slice_is_computed_in_the_pool_of_the_language(
    gateway: Gateway, session: dict[str, Any]
) -> None:
    async with live(gateway) as client:
        await configure(client, session)
        await client.type(LONG)
        await client.until_warm(32)
        assert place_of(gateway) == DE
        assert await answered_by(client, gateway) == DE
        await client.type(NUMBERS)  # the conversation is where it was
        assert await answered_by(client, gateway) == DE
    assert routed(gateway) == {Routed.LANGUAGE: 2}


async def test_a_session_leaves_its_first_replica_once_its_language_is_known(
    gateway: Gateway,
) -> None:
    async with live(gateway) as client:
        await configure(client, INSTRUCTED)
        await client.type("Der Bahnhof war")
        await client.until_warm(192)
        assert place_of(gateway) == COMMON
        await client.type(LONG.removeprefix("Der Bahnhof war"))
        await eventually(lambda: place_of(gateway) == DE)
        await client.until_warm(224)
        assert await answered_by(client, gateway) == DE
    assert routed(gateway) == {Routed.LANGUAGE: 1}


async def test_a_session_leaves_only_once(gateway: Gateway) -> None:
    async with live(gateway) as client:
        await configure(client, INSTRUCTED)
        await client.until_warm(192)
        await client.type(GERMAN)
        await eventually(lambda: place_of(gateway) == DE)
        german = gateway.pool.choose("fake", IN_GERMAN)
        german._load = type(german.load())(running=99, waiting=99)
        await client.type(" Der")
        await eventually(lambda: place_of(gateway) == COMMON)
        await eventually(lambda: german.load().waiting == 0)
        typed = await client.type(" Kiosk war noch geschlossen, und die Halle war leer.")
        while (await client.until_warm(192))["version"] < typed["version"]:
            pass
        assert place_of(gateway) == COMMON


async def test_a_long_text_stays_where_it_has_been_computed(gateway: Gateway) -> None:
    async with live(gateway) as client:
        await client.type(NUMBERS)
        await client.until_warm(128)
        assert place_of(gateway) == COMMON
        await client.type(LONG * 8)
        await client.until_warm(192)
        assert await answered_by(client, gateway) == COMMON
    assert routed(gateway) == {Routed.STAYED: 1}


@pytest.mark.parametrize("sampling", [{"min_p": 0.1}, {"headstart": {"speculation": "off"}}])
async def test_what_no_model_drafts_for_leaves_the_pool(
    gateway: Gateway, sampling: dict[str, Any]
) -> None:
    """vLLM refuses `min_p` there."""
    async with live(gateway) as client:
        await client.type(LONG)
        await client.until_warm(32)
        assert place_of(gateway) == DE
        await configure(client, {"sampling": sampling})
        await eventually(lambda: place_of(gateway) == COMMON)
        await client.until_warm(32)
        assert await answered_by(client, gateway) == COMMON


async def test_other_languages_stay_in_the_common_pool(gateway: Gateway) -> None:
    async with live(gateway) as client:
        await client.type(" ".join([FRENCH] * 3))
        await client.until_warm(32)
        assert await answered_by(client, gateway) == COMMON


@pytest.mark.parametrize("salt", [{}, {"private_cache": True}])
async def test_slices_in_a_pool_have_the_salt_of_the_commit(
    gateway: Gateway, salt: dict[str, Any]
) -> None:
    async with live(gateway) as client:
        await configure(client, {**SPOKEN_OF, **salt})
        await client.type(LONG)
        await client.until_warm(32)
        assert await answered_by(client, gateway) == DE  # and finds them in the cache


@pytest.mark.parametrize(
    ("sampling", "told"),
    [
        ({"headstart": {"speculation": "off", "timing": True}}, {"headstart_speculation": "off"}),
        (
            {"headstart": {"speculation": "copy", "language": "nl"}},
            {"headstart_speculation": "copy", "headstart_language": "nl"},
        ),
        ({"headstart": None}, {"headstart_language": "de"}),
        ({}, {"headstart_language": "de"}),
    ],
)
async def test_thoughts_are_drafted_for_as_their_session_asks(
    gateway: Gateway, sampling: dict[str, Any], told: dict[str, str]
) -> None:
    async with live(gateway) as client:
        await configure(client, {**MIND, "livemind": {"show_thoughts": True}, "sampling": sampling})
        await client.type(f"{GERMAN} Er")
        await until_thought(client, 1)
        asked = [one for each in gateway.replicas for one in each.requests if one.is_background]
        assert json.loads(asked[0].body).get("vllm_xargs", {}) == told
        if "headstart_speculation" in told:  # no model drafts for these
            assert gateway.replicas[COMMON].requests == asked
