"""Requests go to the replicas whose drafter is for their language, as long as those can take them.

The engines are fakes: what is drafted is their business.
"""

import time
from typing import Any

import pytest

from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import DrafterSettings, SpeculationSettings
from headstart.stages.routing import Routed, Wanted
from tests.support.gateway import COMPLETIONS, Gateway, serving, speeds
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

GERMAN = "Der Bahnhof war am frühen Morgen noch leer, und der Kiosk hatte geschlossen."
FRENCH = "Le soir, la pluie avait cessé et les rues de la petite ville brillaient encore."
DRAFTING = ModelSettings(
    name="fake",
    source="a/b",
    speculation=SpeculationSettings(
        default="auto",
        drafters={"de": DrafterSettings(source="a/c"), "nl": DrafterSettings(source="a/d")},
    ),
)
IN_GERMAN = Wanted("de", is_drafted=True)


def three_pools(**fake: Any) -> Any:
    """The common replica, the one for German, and the one for Dutch."""
    return serving(*(speeds(**fake) for _ in range(3)), drafting=DRAFTING)


async def answered_by(gateway: Gateway, text: str, **fields: Any) -> list[int]:
    """Ask, and return how many requests each replica has had by then."""
    body = {"model": "fake", "prompt": text, "max_tokens": 2, **fields}
    answer = await soon(gateway.client.post(COMPLETIONS, json=body))
    assert answer.status_code == 200, answer.text
    return [len(replica.requests) for replica in gateway.replicas]


def routed(gateway: Gateway) -> dict[str, float]:
    found = gateway.exposition()
    counts = {
        why: found.value("headstart_routed_total", model="fake", reason=why) for why in Routed
    }
    return {why: count for why, count in counts.items() if count}


async def test_language_has_its_pool() -> None:
    async with three_pools() as gateway:
        assert await answered_by(gateway, GERMAN) == [0, 1, 0]
        assert await answered_by(gateway, "x", headstart={"language": "nl-BE"}) == [0, 1, 1]
        assert await answered_by(gateway, GERMAN, headstart={"speculation": "drafter"}) == [0, 2, 1]
        assert routed(gateway) == {Routed.LANGUAGE: 3}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"text": FRENCH}, Routed.NO_POOL),
        ({"text": "ok"}, Routed.UNKNOWN),
        ({"headstart": {"speculation": "copy"}}, Routed.UNDRAFTED),
        ({"headstart": {"speculation": "off"}}, Routed.UNDRAFTED),
        ({"min_p": 0.1}, Routed.UNDRAFTED),
        ({"logit_bias": {"5": 1.0}}, Routed.UNDRAFTED),
        ({"seed": 3, "temperature": 0.5}, Routed.UNDRAFTED),
    ],
)
async def test_others_go_to_the_common_pool(fields: dict[str, Any], why: Routed) -> None:
    async with three_pools() as gateway:
        assert await answered_by(gateway, **{"text": GERMAN, **fields}) == [1, 0, 0]
        assert routed(gateway) == {why: 1}


@pytest.mark.parametrize(
    ("weights_default", "found", "why"),
    [("auto", [0, 1, 0], Routed.LANGUAGE), ("off", [1, 0, 0], Routed.UNDRAFTED)],
)
async def test_what_the_settings_leave_open_goes_by_what_the_replicas_say(
    weights_default: str, found: list[int], why: Routed
) -> None:
    """Their weights' card decides, which the gateway does not see."""
    assert DRAFTING.speculation is not None
    speculation = DRAFTING.speculation.model_copy(update={"default": None})
    open_ = DRAFTING.model_copy(update={"speculation": speculation})
    replicas = [speeds() for _ in range(3)]
    async with serving(*replicas, drafting=open_, weights_default=weights_default) as gateway:
        assert await answered_by(gateway, GERMAN) == found
        assert routed(gateway) == {why: 1}


async def test_lost_pool_is_stood_in_for_and_comes_back() -> None:
    async with three_pools() as gateway:
        all_of_them = gateway.table
        gateway.pool.update([each for each in all_of_them if each.pool != "de"])
        assert await answered_by(gateway, GERMAN) == [1, 0, 0]
        await gateway.connect()
        assert await answered_by(gateway, GERMAN) == [1, 1, 0]
        assert routed(gateway) == {Routed.DOWN: 1, Routed.LANGUAGE: 1}


async def test_lost_common_pool_is_stood_in_for_by_any_other() -> None:
    async with three_pools() as gateway:
        gateway.pool.update([each for each in gateway.table if each.pool])

        assert sum(await answered_by(gateway, FRENCH)) == 1


async def test_hot_pool_spills_over() -> None:
    async with three_pools(tokens_per_s=0.5, answer_tokens=4) as gateway:
        german = gateway.pool.choose("fake", IN_GERMAN)
        german._load = type(german.load())(running=8, waiting=8)

        assert gateway.pool.choose("fake", IN_GERMAN) is not german
        assert routed(gateway) == {Routed.LANGUAGE: 1, Routed.HOT: 1}
        await eventually(lambda: german.load().waiting == 0)


async def test_pool_whose_answers_grow_slower_is_hot_before_anybody_waits() -> None:
    async with three_pools() as gateway:
        german = gateway.pool.choose("fake", IN_GERMAN)
        common = gateway.pool.choose("fake")
        for link, tokens in ((german, 10), (common, 20)):
            link.speed.observe(1, tokens, 2.0, time.monotonic())

        assert gateway.pool.choose("fake", IN_GERMAN) is common
        german.speed.observe(1, 1000, 19.0, time.monotonic())
        assert gateway.pool.choose("fake", IN_GERMAN) is german
        assert routed(gateway) == {Routed.LANGUAGE: 2, Routed.HOT: 1}


async def test_speeds_of_replicas_are_measured_as_their_answers_arrive() -> None:
    async with three_pools(tokens_per_s=50.0, answer_tokens=100) as gateway:
        for text, is_streamed in ((GERMAN, True), (FRENCH, False)):
            await answered_by(gateway, text, max_tokens=100, stream=is_streamed)
        common, german = (gateway.pool.up("fake")[at] for at in (0, 1))

        for link in (common, german):
            assert link.speed.at(1, time.monotonic()) == pytest.approx(50.0, rel=0.2)
