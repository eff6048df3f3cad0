"""The body's `headstart` object: what it asks for, and that it goes no further."""

import json
from typing import Any

import pytest

from headstart.stages.stage_clock import Stage
from tests.support.events import chunks, events
from tests.support.gateway import CHAT, COMPLETIONS, Gateway, saying, serving, speeds
from tests.support.raw_http import connected
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

MEASURED = [stage for stage in Stage if stage not in (Stage.NETWORK, Stage.RENDER)]
TIMING: dict[str, Any] = {"headstart": {"timing": True}}
BODIES = {CHAT: saying(max_tokens=4), COMPLETIONS: {"prompt": "a", "max_tokens": 4}}


def check(timing: dict[str, Any], gateway: Gateway) -> None:
    """A finished answer's timing is complete and adds up."""
    stages = timing["stages_s"]
    assert list(stages) == MEASURED
    assert all(seconds >= 0 for seconds in stages.values())
    # A stage between two processes may be off by the uncertainty, and is never below zero.
    error_s = 2 * timing["clock_uncertainty_s"] + 1e-5
    assert sum(stages.values()) == pytest.approx(timing["until_sent_s"], abs=error_s)
    before_decode = MEASURED[: MEASURED.index(Stage.DECODE)]
    until_first = sum(stages[stage] for stage in before_decode)
    assert until_first == pytest.approx(timing["until_first_token_s"], abs=error_s)
    assert timing["is_finished"]
    assert timing["output_tokens"] == 4
    assert timing["prompt_tokens"] > timing["cached_prompt_tokens"] == 0
    assert 0 < timing["clock_uncertainty_s"] < 0.05
    assert timing["stream_id"] == gateway.replica.requests[0].stream_id


@pytest.mark.parametrize("path", BODIES)
async def test_last_chunk_says_where_the_time_went(gateway: Gateway, path: str) -> None:
    plain = chunks(await gateway.stream(path, json=BODIES[path] | {"stream": True}))
    gateway.replica.requests.clear()

    *parts, last = chunks(await gateway.stream(path, json=BODIES[path] | {"stream": True} | TIMING))

    assert set(last) == {"id", "object", "created", "model", "choices", "headstart"}
    assert last["choices"] == []
    assert all(last[key] == parts[0][key] for key in ("id", "object", "created", "model"))
    assert [part["choices"] for part in parts] == [part["choices"] for part in plain]
    check(last["headstart"]["timing"], gateway)


@pytest.mark.parametrize("path", BODIES)
async def test_whole_answer_says_where_the_time_went(gateway: Gateway, path: str) -> None:
    plain = (await soon(gateway.client.post(path, json=BODIES[path]))).json()
    gateway.replica.requests.clear()

    answer = (await soon(gateway.client.post(path, json=BODIES[path] | TIMING))).json()

    timing = answer.pop("headstart")["timing"]
    # A body is measured before it is sent.
    assert set(timing["stages_s"]) == {*MEASURED} - {Stage.SEND}
    assert timing["until_sent_s"] is None
    assert answer["choices"] == plain["choices"]
    assert answer["usage"] == plain["usage"]


async def test_refusal_says_nothing_of_time(gateway: Gateway) -> None:
    answer = await soon(gateway.client.post(CHAT, json=saying(max_tokens=0) | TIMING))

    assert set(answer.json()) == {"error"}


async def test_timing_of_any_kept_answer_can_be_asked_for(gateway: Gateway) -> None:
    await gateway.stream(json=saying(stream=True, max_tokens=4))
    path = f"/v1/streams/{gateway.replica.requests[0].stream_id}"
    await gateway.unused()

    timing = (await soon(gateway.client.get(f"{path}/timing"))).json()

    check(timing, gateway)


async def test_reading_again_changes_no_timing(gateway: Gateway) -> None:
    await gateway.stream()
    path = f"/v1/streams/{gateway.replica.requests[0].stream_id}"
    await gateway.unused()
    before = (await soon(gateway.client.get(f"{path}/timing"))).json()

    await soon(gateway.client.get(path))

    assert (await soon(gateway.client.get(f"{path}/timing"))).json() == before


async def test_timing_of_an_answer_in_the_making_ends_where_it_is() -> None:
    async with serving(speeds(stage_delays_s={"decode": 60.0})) as gateway:
        async with connected(gateway.address) as connection:
            connection.post(CHAT, saying(stream=True))
            await connection.until(b'"content":" ')
            stream = gateway.live

            answer = await soon(gateway.client.get(f"/v1/streams/{stream.id}/timing"))

        timing = answer.json()
        assert list(timing["stages_s"]) == MEASURED[: MEASURED.index(Stage.DECODE)]
        assert not timing["is_finished"]
        assert timing["output_tokens"] is None


@pytest.mark.parametrize("options", [{}, {"timing": True}, {"detach": True, "timing": False}])
async def test_engine_never_sees_the_options(gateway: Gateway, options: dict[str, bool]) -> None:
    body = saying('A "headstart" for all.', max_tokens=2, stream=True, x=[1.50, None])

    await gateway.stream(content=json.dumps(body | {"headstart": options}))

    (request,) = gateway.replica.requests
    assert json.loads(request.body) == body


async def test_word_in_a_prompt_is_no_option(gateway: Gateway) -> None:
    body = json.dumps({"prompt": 'say "headstart"', "max_tokens": 2}).encode()

    await soon(gateway.client.post(COMPLETIONS, content=body))

    assert json.loads(gateway.replica.requests[0].body) == json.loads(body)


async def test_only_a_detached_answer_carries_cursors(gateway: Gateway) -> None:
    detached = await gateway.stream(json=saying(stream=True, headstart={"detach": True}))
    plain = await gateway.stream(json=saying(stream=True, headstart={"detach": False}))

    assert all(event.id is not None for event in events(detached))
    assert all(event.id is None for event in events(plain))


@pytest.mark.parametrize(("word", "is_detached"), [("1", True), ("true", True), ("false", False)])
async def test_header_detaches(gateway: Gateway, word: str, is_detached: bool) -> None:
    body = await gateway.stream(headers={"x-headstart-detach": word})

    assert all((event.id is not None) == is_detached for event in events(body))


async def test_other_words_in_the_header_are_refused(gateway: Gateway) -> None:
    answer = await soon(
        gateway.client.post(CHAT, json=saying(), headers={"x-headstart-detach": "yes"})
    )

    assert answer.status_code == 400
    assert "X-Headstart-Detach" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("asked", "theirs", "given"),
    [
        ({"speculation": "copy"}, None, {"headstart_speculation": "copy"}),
        (
            {"speculation": "auto", "language": "de-AT"},
            {"own": 1},
            {"own": 1, "headstart_speculation": "auto", "headstart_language": "de-AT"},
        ),
        (
            {"speculation": "off"},
            {"headstart_speculation": "copy"},
            {"headstart_speculation": "off"},
        ),
        ({"timing": True}, {"own": "x"}, {"own": "x"}),
        ({}, None, None),
    ],
)
async def test_engine_hears_how_to_draft(
    gateway: Gateway,
    asked: dict[str, Any],
    theirs: dict[str, Any] | None,
    given: dict[str, Any] | None,
) -> None:
    body = saying(max_tokens=1) | {"headstart": asked}
    if theirs is not None:
        body["vllm_xargs"] = theirs

    answer = await soon(gateway.client.post(CHAT, json=body))

    assert answer.status_code == 200
    assert json.loads(gateway.replica.requests[-1].body).get("vllm_xargs") == given


@pytest.mark.parametrize(
    "fields",
    [
        {"headstart": {"speculation": "fast"}},
        {"headstart": {"speculation": "auto", "language": "not a tag"}},
        {"headstart": {"speculation": "auto"}, "vllm_xargs": [1]},
    ],
)
async def test_nonsense_about_drafting_is_refused(gateway: Gateway, fields: dict[str, Any]) -> None:
    answer = await soon(gateway.client.post(CHAT, json=saying(max_tokens=1) | fields))

    assert answer.status_code == 400
    assert not gateway.replica.requests
