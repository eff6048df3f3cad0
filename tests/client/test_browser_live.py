"""The browser module's live prompts, in Node: typed, corrected, refused, cut off, sent off."""

import asyncio
import json
from typing import Any

import pytest

from headstart.configs.access import AccessSettings, KeySettings
from headstart.configs.model_settings import ModelSettings
from headstart.stages.access import hash_of
from tests.support.events import text as text_of
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds
from tests.support.node_client import node
from tests.support.waiting import PATIENCE_S, soon

pytestmark = pytest.mark.anyio

LONG = " ".join(f"word{number}" for number in range(200)) + " "


async def typed(gateway: Gateway, scenario: str, **options: Any) -> Any:
    """Let the module do what `type_live.mjs` says."""
    words = (
        "--experimental-websocket",
        "tests/client/type_live.mjs",
        gateway.url,
        scenario,
        json.dumps(options),
    )
    return json.loads(await soon(asyncio.to_thread(node, *words)))


async def plain(gateway: Gateway, text: str, **fields: Any) -> str:
    answer = await soon(gateway.client.post(CHAT, json=saying(text, stream=True, **fields)))
    return text_of(answer.content)


def model() -> ModelSettings:
    return speeds(prefill_tokens_per_s=4000.0, time_to_first_token_s=0.001)


async def test_typed_corrected_and_committed() -> None:
    async with serving(model()) as gateway:
        found = await typed(gateway, "types")
        expected = "fïrst😀"[:6] + "!" + LONG[5:] + "and then 日本"
        assert found["text"] == expected
        assert found["answer"]["text"] == await plain(gateway, expected, max_tokens=8)
        assert found["answer"]["ends"] == ["length"]
        assert found["answer"]["rungs"] == ["sse"]
        assert found["computed"]["warmTokens"] >= 192
        assert found["left"] == ""
        messages = json.loads(gateway.replica.requests[1].body)["messages"]
        assert [one["content"] for one in messages] == [
            expected,
            found["answer"]["text"],
            "And then?",
        ]
        assert found["again"]["text"] != ""
        assert found["late"]["name"] == "Cancelled"
        assert found["version"] == 4 + 1 + 2 + 1
        stream = await soon(gateway.client.get(f"/v1/streams/{found['answer']['id']}"))
        assert text_of(stream.content) == found["answer"]["text"]
        assert len(gateway.live_prompts) == 0


async def test_it_is_thought_about_until_it_is_not() -> None:
    async with serving() as gateway:
        found = await typed(gateway, "thinks")
        (thought,) = found["thoughts"]
        assert thought["text"]
        assert found["ahead"]["thoughts"] == 1
        assert found["ahead"]["thought_tokens"] > 0
        assert "thoughts" not in found["later"]
        asked = [one for one in gateway.replica.requests if not one.is_background]
        first, later = (
            [one["content"] for one in json.loads(request.body)["messages"]] for request in asked
        )
        assert f"action inference. {thought['text']}" in first
        assert f"action inference. {thought['text']}" not in later


async def test_a_whole_text_is_one_edit_of_what_differs() -> None:
    async with serving() as gateway:
        found = await typed(gateway, "sets")
    assert found == [
        *(["", 0], ["a", 1], ["abc", 2], ["ac", 3], ["abc😀d", 4], ["abc😀😀d", 5]),
        *(["xd", 6], ["x", 7], ["", 8], ["whole other", 9], ["\ufffd", 10]),
    ]


async def test_what_is_refused() -> None:
    async with serving(speeds(tokens_per_s=50)) as gateway:
        found = await typed(gateway, "refused")
        assert found["bad"]["name"] == "NotFound"
        assert (found["empty"]["name"], found["empty"]["code"]) == (
            "LiveRefused",
            "nothing_to_commit",
        )
        first, *others = found["outcomes"]
        assert (first["name"], first["code"]) == ("LiveRefused", "out_of_range")
        assert [one["name"] for one in others] == ["LiveRefused"] * 2
        assert found["text"] == "one"
        assert found["said"] == await plain(gateway, "one two")
        assert found["early"] == {"value": None}  # it was sent when the answer was over
        assert found["left"] == "while it is answered"


async def test_a_prompt_whose_answer_fails_is_still_there() -> None:
    small = speeds().model_copy(update={"max_model_len": 64})
    async with serving(small) as gateway:
        found = await typed(gateway, "fails")
    assert found["failure"] == "BadRequest"
    assert found["meanwhile"]["code"] == "response_failed"
    assert found["text"] == LONG


async def test_connections_that_are_lost_lose_no_edit_and_no_character() -> None:
    async with serving(speeds(tokens_per_s=100, answer_tokens=40)) as gateway:
        found = await typed(gateway, "loses")
        expected = "zero" + "".join(f"{number} " for number in range(300))[1:]
        assert found["text"] == expected
        assert found["numSockets"] > 5
        (request,) = (one for one in gateway.replica.requests if one.method == "POST")
        assert json.loads(request.body)["messages"][0]["content"] == expected
        assert found["answer"]["text"] == await plain(gateway, expected)


MADE: dict[str, Any] = {"value": None}


def is_conflict(outcome: dict[str, Any]) -> bool:
    return (outcome.get("name"), outcome.get("code")) == ("LiveRefused", "version_conflict")


async def test_what_others_type_is_in_the_text_of_a_page_that_watches() -> None:
    async with serving() as gateway:
        shared = await typed(gateway, "shares")
        expected = await plain(gateway, shared["found"][-1][0])
    (first, second, text, version, kept), *others = shared["found"]
    assert first == MADE or is_conflict(first)
    assert second == MADE
    made = ("e" if first == MADE else "") + "f"
    assert (text, version) == (f"abcd{made}", 2 + len(made))
    assert kept == {"text": text, "version": version}
    assert others == [
        [f"{text}😀g", version + 2, {"text": f"{text}😀g", "version": version + 2}],
        [f"{text}😀gh", version + 3, {"text": f"{text}😀gh", "version": version + 3}],
    ]
    assert shared["answer"] == expected


async def test_edits_on_their_way_when_somebody_else_types_are_told_apart() -> None:
    async with serving() as gateway:
        found = await typed(gateway, "collides")
    first, second, third = found["outcomes"]
    assert is_conflict(first)
    assert second == MADE  # its version is that of the other's text, by chance
    assert third == MADE
    assert found["next"] == MADE
    assert found["kept"] == {"text": found["text"], "version": found["version"]}
    assert found["text"] == "abcdfgh"


async def test_after_a_lost_connection_others_edits_are_not_taken_for_ones_own() -> None:
    async with serving() as gateway:
        ours, others = await typed(gateway, "returns")
    assert ours == [MADE, "abcd", 2, {"text": "abcd", "version": 2}]
    late, then, text, kept = others
    assert is_conflict(late)
    assert then == MADE
    assert (text, kept) == ("abcdxf", {"text": "abcdxf", "version": 4})


async def test_an_answer_that_somebody_else_asked_for_takes_the_text() -> None:
    async with serving(speeds(tokens_per_s=100, answer_tokens=20)) as gateway:
        yielded = await typed(gateway, "yields")
        early, then, text, kept = yielded["found"]
        assert is_conflict(early)
        assert then == MADE
        assert (text, kept) == ("Next.", {"text": "Next.", "version": 3})
        *_, last = (one for one in gateway.replica.requests if not one.is_background)
        messages = [one["content"] for one in json.loads(last.body)["messages"]]
    assert (messages[0], messages[-1]) == ("Count.", "Next.")
    assert yielded["answer"]


async def test_an_answer_can_be_stopped_by_its_prompt() -> None:
    async with serving(speeds(tokens_per_s=50, answer_tokens=100_000)) as gateway:
        found = await typed(gateway, "stops")
        await gateway.replica.idle(PATIENCE_S)
    assert (found["none"]["name"], found["none"]["status"]) == ("ClientError", 409)
    assert found["stopped"]["name"] == "Cancelled"
    assert (found["status"], found["text"]) == ("cancelled", "On.")


async def test_a_session_that_is_ended_says_so() -> None:
    async with serving() as gateway:
        found = await typed(gateway, "ends")
    assert found["found"]["name"] == found["later"]["name"] == "EngineLost"


async def test_leaving_the_answer_stops_it_and_the_conversation_goes_on() -> None:
    async with serving(speeds(tokens_per_s=50, answer_tokens=100_000)) as gateway:
        assert await typed(gateway, "cancels") == {"text": "On."}
        await gateway.replica.idle(PATIENCE_S)


async def test_answers_that_are_more_than_text_are_read_from_their_stream() -> None:
    async with serving() as gateway:
        assert await typed(gateway, "streams") == {"models": ["fake"], "sockets": 1}


async def test_without_a_gateway_it_is_an_error() -> None:
    async with serving() as gateway:
        pass
    assert (await typed(gateway, "begins"))["name"] == "EngineUnavailable"


async def test_keys() -> None:
    key = KeySettings(id="alice", hash=hash_of("hs-alice"), live=True)
    other = KeySettings(id="bob", hash=hash_of("hs-bob"))
    async with serving(access=AccessSettings(keys=(key, other))) as gateway:
        assert (await typed(gateway, "begins"))["name"] == "Unauthenticated"
        assert (await typed(gateway, "begins", apiKey="hs-bob"))["name"] == "Forbidden"
        assert (await typed(gateway, "sets", apiKey="hs-alice"))[2] == ["abc", 2]
