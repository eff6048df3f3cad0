"""A prompt that is thought about while it is typed: LiveMind in a live session."""

import asyncio
import json
import threading
from typing import Any

import pytest

from headstart.cluster.remote_engine import RemoteEngine
from headstart.pipeline import live_services
from headstart.pipeline.access import ANYONE
from headstart.pipeline.live_events import Clear, MindConfig, SessionConfig
from headstart.stages.errors import NotFound
from headstart.stages.language import is_loaded
from tests.pipeline.live_client import live
from tests.pipeline.thinking import (
    FIRST,
    MIND,
    SECOND,
    answer_of,
    begun,
    endless,
    outcomes,
    said_in,
    slow,
    think,
    thoughts_of,
    until_thought,
)
from tests.support.gateway import Gateway, serving, speeds
from tests.support.waiting import PATIENCE_S, eventually, soon

pytestmark = pytest.mark.anyio


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
        # 63 steps of 1/400 s, less what the first token may come late
        assert done["computed_ahead"]["thought_engine_s"] >= 0.8 * 63 / 400
        (asked,) = thoughts_of(gateway)
        assert json.loads(asked.body)["messages"] == body["messages"][:2]


async def test_a_text_may_tell_its_language() -> None:
    german = "Das ist ein kurzer Test, bzw. Versuch mit der Bahn. "
    async with serving(speeds()) as gateway, live(gateway) as client:
        await think(client, show_thoughts=True, language="auto")
        await eventually(is_loaded, within_s=30)
        await client.type(german + "Er")
        (thought,) = await until_thought(client, 1)
        assert thought["end"] == len(german)  # in English `bzw.` ends a sentence


async def test_the_model_of_languages_is_loaded_once(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, loads = threading.Event(), list[int]()

    def load() -> None:
        loads.append(1)
        gate.wait(PATIENCE_S)

    monkeypatch.setattr(live_services, "is_loaded", lambda: False)
    monkeypatch.setattr(live_services, "load", load)
    config = SessionConfig(mode="livemind", livemind=MindConfig(language="auto"))
    try:
        for _ in range(8):
            gateway.live_prompts.create(ANYONE).configure(config)
        await eventually(lambda: bool(loads))
        gateway.live_prompts.create(ANYONE).configure(config)
        await asyncio.sleep(0)
        (loading,) = gateway.live_prompts._services.loading._tasks
    finally:
        gate.set()
    await soon(asyncio.wait([loading]))
    assert len(loads) == 1


async def test_a_client_is_told_which_formats_append_only() -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        for form, is_friendly in (("ua-spi", True), ("ua-pil", False), ("two-prompts", False)):
            session = {**MIND, "livemind": {"format": form}}
            await client.say("session.update", session=session)
            updated = (await client.until("session.updated"))["session"]
            assert updated["livemind"]["format"] == form
            assert updated["is_prefix_friendly"] is is_friendly


async def test_every_prompt_begins_with_what_was_computed_before() -> None:
    long = " ".join(f"word{number}" for number in range(200)) + ". "
    async with serving(speeds(prefill_tokens_per_s=4000.0)) as gateway, live(gateway) as client:
        await think(client, show_thoughts=True)
        await client.type(long + "It")
        await until_thought(client, 1)
        await client.type(SECOND[2:] + "When")
        await until_thought(client, 2)
        await client.until_warm(384)
        await client.type(" is it there?")
        _, done = await client.commit()
        first, second = (json.loads(one.body)["messages"] for one in thoughts_of(gateway))
        assert second[: len(first)] == first
        timing = done["timing"]
        assert timing["cached_prompt_tokens"] >= timing["prompt_tokens"] - 2 * 32


async def test_what_was_edited_away_is_in_no_prompt() -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        await think(client, show_thoughts=True)
        await client.type(FIRST + SECOND + "Wh")
        (thought,) = await until_thought(client, 1)
        await client.say("input_text.replace", start=4, end=9, text="bus")
        event = await client.until("input_text.reasoning")
        assert event["thoughts"] == []
        _, done = await client.commit()
        assert thought["text"] not in json.dumps(answer_of(gateway), ensure_ascii=False)
        assert done["computed_ahead"]["wasted_thought_tokens"] >= 64
        assert outcomes(gateway)["dropped"] == 1


async def test_an_edit_stops_the_thought_in_the_engine() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        await think(client)
        await client.type(FIRST + "It")
        await begun(gateway)
        await client.say("input_text.replace", start=0, end=3, text="A")
        await gateway.replica.idle(2.0)
        await eventually(lambda: outcomes(gateway) == {"edited": 1})


async def test_commit_stops_the_thought_or_waits_for_it() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        await think(client, at_commit="cancel", max_tokens=60)
        await client.type(FIRST + "It")
        await begun(gateway)
        _, done = await client.commit()
        assert said_in(answer_of(gateway), "assistant") == []
        assert done["computed_ahead"]["thoughts"] == 0
        assert outcomes(gateway) == {"committed": 1}

        await think(client, at_commit="wait", max_tokens=16)
        await client.type(FIRST + "It")
        await begun(gateway, 2)
        _, done = await client.commit()
        assert done["computed_ahead"]["thoughts"] == 1
        assert 0 < done["computed_ahead"]["waited_s"] < 5
        assert outcomes(gateway) == {"committed": 1, "used": 1}


async def test_nothing_can_be_changed_while_a_thought_is_waited_for() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        await think(client, at_commit="wait", max_tokens=20)
        await client.type(FIRST + "It")
        await begun(gateway)
        path = f"/v1/live/{client.seen[0]['session']['id']}"
        await client.say("input_text.commit")
        session = gateway.live_prompts.get(path.rpartition("/")[2], ANYONE)
        await eventually(lambda: session._is_committing)
        edits = {"edits": [{"type": "input_text.append", "text": "x"}]}
        refused = await soon(gateway.client.patch(path, json=edits))
        assert refused.status_code == 409
        done = await client.until("response.done")
        assert done["response"]["status"] == "completed"
        assert said_in(answer_of(gateway), "user")[-1] == "It [end]"


async def test_a_session_that_is_closed_waits_for_no_thought() -> None:
    async with endless() as gateway, live(gateway) as client:
        await think(client, at_commit="wait")
        await client.type(FIRST + "It")
        await begun(gateway)
        path = f"/v1/live/{client.seen[0]['session']['id']}"
        session = gateway.live_prompts.get(path.rpartition("/")[2], ANYONE)
        await client.say("input_text.commit")
        await eventually(lambda: session._is_committing)
        assert (await soon(gateway.client.delete(path))).status_code == 204
        assert await client.closed() == 4002
        await gateway.replica.idle(2.0)
        assert not [one for one in gateway.replica.requests if not one.is_background]


async def test_a_commit_that_waits_for_a_thought_can_be_cancelled() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        await think(client, at_commit="wait")
        await client.type(FIRST + "It")
        await begun(gateway)
        await client.say("input_text.commit", event_id="mine")
        await client.say("input_text.append", text="x")
        assert (await client.error())["code"] == "response_in_progress"
        await client.say("response.cancel")
        error = await client.error()
        assert (error["code"], error["event_id"]) == ("commit_cancelled", "mine")
        await client.type(" goes on.")
        assert not [one for one in gateway.replica.requests if not one.is_background]
        await think(client, at_commit="cancel")
        _, done = await client.commit()
        assert done["response"]["status"] == "completed"
        assert said_in(answer_of(gateway), "user")[-1].endswith("It goes on. [end]")


async def test_a_socket_that_is_lost_while_a_thought_is_waited_for() -> None:
    async with endless() as gateway:
        async with live(gateway) as client:
            await think(client, at_commit="wait")
            await client.type(FIRST + "It")
            await begun(gateway)
            session = gateway.live_prompts.get(client.seen[0]["session"]["id"], ANYONE)
            await client.say("input_text.commit")
            await eventually(lambda: session._is_committing)
        await eventually(lambda: not session._is_committing)
        assert not [one for one in gateway.replica.requests if not one.is_background]


async def test_a_client_that_leaves_while_a_thought_is_waited_for_gets_no_answer_made() -> None:
    async with endless() as gateway:
        body = {"session": MIND | {"livemind": {"at_commit": "wait"}}, "text": FIRST + "It"}
        state = (await soon(gateway.client.post("/v1/live", json=body))).json()
        await begun(gateway)
        session = gateway.live_prompts.get(state["id"], ANYONE)
        asked = asyncio.ensure_future(gateway.client.post(f"/v1/live/{state['id']}/commit"))
        await eventually(lambda: session._is_committing)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await eventually(lambda: not session._is_committing)
        assert not [one for one in gateway.replica.requests if not one.is_background]
        assert session.text == FIRST + "It"


async def test_whoever_leaves_while_a_thought_is_waited_for_may_come_back() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        await think(client, at_commit="wait")
        await client.type(FIRST + "It")
        await begun(gateway)
        session = gateway.live_prompts.get(client.seen[0]["session"]["id"], ANYONE)
        leaving = asyncio.ensure_future(session.commit())
        await eventually(lambda: session._is_committing)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await client.type(" goes on.")
        _, done = await client.commit()
        assert done["response"]["status"] == "completed"
        assert said_in(answer_of(gateway), "user")[-1].endswith("It goes on. [end]")


async def test_a_session_that_is_closed_computes_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rendered: list[Any] = []

    async def render(_: RemoteEngine, request: Any) -> list[int]:
        rendered.append(request)
        return []

    async with serving(slow()) as gateway, live(gateway) as client:
        await think(client, show_thoughts=True, max_tokens=16)
        await client.type(FIRST + "It")
        await until_thought(client, 1)
        await client.type(SECOND[2:] + "When")
        await begun(gateway, 2)
        session = gateway.live_prompts.get(client.seen[0]["session"]["id"], ANYONE)
        monkeypatch.setattr(RemoteEngine, "render", render)
        await session.close()
        assert not rendered
        assert session.ahead.warmer._timer is None


async def test_what_is_closed_is_not_sent_off() -> None:
    async with endless() as gateway, live(gateway) as client:
        await think(client, at_commit="wait")
        await client.type(FIRST + "It")
        await begun(gateway)
        session = gateway.live_prompts.get(client.seen[0]["session"]["id"], ANYONE)
        commit = asyncio.ensure_future(session.commit())
        await eventually(lambda: session._is_committing)
        assert session.ahead.thinker is not None
        assert session.ahead.thinker._answer is not None
        session.ahead.thinker._answer.set_result(())
        await session.close()
        with pytest.raises(NotFound):
            await soon(commit)
        assert not [one for one in gateway.replica.requests if not one.is_background]


async def test_a_commit_over_http_of_a_session_that_is_closed() -> None:
    async with endless() as gateway:
        body = {"session": MIND | {"livemind": {"at_commit": "wait"}}, "text": FIRST + "It"}
        state = (await soon(gateway.client.post("/v1/live", json=body))).json()
        path = f"/v1/live/{state['id']}"
        await begun(gateway)
        session = gateway.live_prompts.get(state["id"], ANYONE)
        asked = asyncio.ensure_future(gateway.client.post(f"{path}/commit"))
        await eventually(lambda: session._is_committing)
        assert (await soon(gateway.client.delete(path))).status_code == 204
        assert (await soon(asked)).status_code == 404


async def test_thoughts_are_shown_to_nobody_who_did_not_ask() -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        await think(client)
        await client.type(FIRST + "It")
        session_id = client.seen[0]["session"]["id"]
        session = gateway.live_prompts.get(session_id, ANYONE)
        await eventually(lambda: bool(session.ahead.thinker and session.ahead.thinker.noted))
        state = (await soon(gateway.client.get(f"/v1/live/{session_id}"))).json()
        (asked,) = thoughts_of(gateway)
        stream = await soon(gateway.client.get(f"/v1/streams/{asked.stream_id}"))
        await client.commit()
        assert "reasoning" not in state
        assert stream.status_code == 404
        kinds = {one["type"] for one in client.seen}
        assert not {kind for kind in kinds if "reasoning" in kind}


async def test_what_is_cleared_or_expired_is_forgotten(capfd: pytest.CaptureFixture[str]) -> None:
    now, thought = 1000.0, {}
    async with serving(speeds(), now=lambda: now) as gateway:
        session = gateway.live_prompts.create(ANYONE)
        async with live(gateway, f"?session={session.id}") as client:
            for _ in range(2):
                await think(client, show_thoughts=True)
                await client.type("Zanzibar is far away. It")
                (thought,) = await until_thought(client, 1)
                thinker = session.ahead.thinker
                assert thinker is not None
                await client.say("input_text.clear")
                await client.until("input_text.cleared")
                assert not thinker.noted
                assert not thinker._known
                assert not gateway.streams.live
                assert len(gateway.streams) == 0
        session.edit(Clear())
        now += 10_000
        gateway.live_prompts.expire()
        await eventually(lambda: len(gateway.live_prompts) == 0)
    written = "".join(capfd.readouterr())
    assert "Zanzibar" not in written
    assert thought["text"] not in written


@pytest.mark.parametrize("form", ["ua-pil", "two-prompts"])
async def test_other_formats(form: str) -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        await think(client, show_thoughts=True, format=form)
        await client.type(FIRST + "It")
        await until_thought(client, 1)
        await client.type(SECOND[2:] + "When")
        await until_thought(client, 2)
        await client.commit()
        body = answer_of(gateway)
        assert len(said_in(body, "assistant")) == (1 if form == "ua-pil" else 2)
        thinking = json.loads(thoughts_of(gateway)[-1].body)
        assert (thinking["messages"][0] == body["messages"][0]) == (form == "ua-pil")


async def test_the_conversation_goes_on_without_the_thoughts() -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        await think(client, show_thoughts=True)
        await client.type(FIRST + "It")
        await until_thought(client, 1)
        answer, _ = await client.commit()
        await client.type("And then?")
        await client.commit()
        messages = answer_of(gateway)["messages"][1:]
        assert [one["content"] for one in messages] == [FIRST + "It", answer, "And then? [end]"]


async def test_tools_are_in_a_thoughts_prompt_and_not_called() -> None:
    tool = {"type": "function", "function": {"name": "clock", "parameters": {}}}
    async with serving(speeds()) as gateway, live(gateway) as client:
        session = {"tools": [tool], "sampling": {"temperature": 1, "cache_salt": "mine"}}
        await client.say("session.update", session=session)
        await client.until("session.updated")
        await think(client)
        await client.type(FIRST + "It")
        await begun(gateway)
        body = json.loads(thoughts_of(gateway)[0].body)
        assert (body["tools"], body["tool_choice"]) == ([tool], "none")
        assert (body["temperature"], body["cache_salt"]) == (0, "mine")


async def test_another_mode_forgets_the_thoughts() -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        await think(client, show_thoughts=True)
        await client.type(FIRST + "It")
        await until_thought(client, 1)
        await client.say("session.update", session={"mode": "lossless"})
        await client.until("session.updated")
        await client.commit()
        assert answer_of(gateway)["messages"] == [{"role": "user", "content": FIRST + "It"}]
        await eventually(lambda: outcomes(gateway) == {"dropped": 1})


async def test_over_http() -> None:
    async with serving(speeds()) as gateway:
        session = MIND | {"livemind": {"show_thoughts": True}}
        body = {"session": session, "text": FIRST + "It"}
        state = (await soon(gateway.client.post("/v1/live", json=body))).json()
        path = f"/v1/live/{state['id']}"
        await eventually(lambda: bool(thoughts_of(gateway)))
        kept = gateway.live_prompts.get(state["id"], ANYONE)
        await eventually(lambda: bool(kept.reasoning and kept.reasoning.thoughts))
        state = (await soon(gateway.client.get(path))).json()
        assert state["reasoning"]["thoughts"][0]["end"] == len(FIRST)
        for stage in ("ingest", "segment", "think"):
            name = "headstart_live_stage_seconds_count"
            assert gateway.exposition().value(name, stage=stage, model="fake") > 0, stage
        answer = await soon(gateway.client.post(f"{path}/commit"))
        assert answer.status_code == 200
        assert len(said_in(answer_of(gateway), "assistant")) == 1


@pytest.mark.parametrize("thinker", ["fake", "wise"])
async def test_decoded_thoughts_are_not_taken_for_text_that_was_computed(thinker: str) -> None:
    models = speeds("fake", prefill_tokens_per_s=4000.0), speeds("wise", seed=7)
    async with serving(*models) as gateway, live(gateway) as client:
        await think(client, show_thoughts=True, thinker=thinker)
        await client.type("word " * 200 + FIRST + "It")
        await until_thought(client, 1)
        await client.until_warm(192)
        _, done = await client.commit()
        ahead = done["computed_ahead"]
        used = ahead["tokens"] - ahead["wasted_tokens"]
        decoded = ahead["thought_tokens"] if thinker == "fake" else 0
        assert used == done["timing"]["cached_prompt_tokens"] - decoded > 100
        assert ahead["hidden_s"] == pytest.approx(ahead["engine_s"] * used / ahead["tokens"], 1e-3)


async def test_the_prompt_of_a_thought_that_ends_with_its_session_is_waste() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        await think(client)
        await client.type("word " * 200 + FIRST + "It")
        await begun(gateway)

        await soon(gateway.live_prompts.close())

        found = gateway.exposition()
        computed = found.value("headstart_live_warm_tokens_total", model="fake")
        assert computed > 192
        assert found.value("headstart_live_wasted_tokens_total", model="fake") == computed
