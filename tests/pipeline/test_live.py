"""A prompt is typed, corrected and sent off: the answer is the plain request's, and sooner."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.websockets import WebSocket

from headstart.cluster.stream import Stream
from headstart.configs.model_settings import ModelSettings
from headstart.pipeline.access import ANYONE
from headstart.pipeline.live_history import said
from headstart.pipeline.live_report import deltas
from headstart.pipeline.live_socket import LiveSocket
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.mirror import StreamEnd
from headstart.stages.stage_clock import Mark
from tests.pipeline.live_client import LiveClient, live
from tests.support.events import text as text_of
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds
from tests.support.live_scripts import script
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

LONG = " ".join(f"word{number}" for number in range(400)) + " "
BLOCK = 32
WARM = 400 // BLOCK * BLOCK
"""What can be computed of it ahead."""


def slow() -> ModelSettings:
    """A model whose prefill can be felt."""
    return speeds(prefill_tokens_per_s=2000.0, time_to_first_token_s=0.001)


async def plain(gateway: Gateway, text: str, **fields: Any) -> str:
    """The answer to the same prompt in one piece."""
    answer = await soon(gateway.client.post(CHAT, json=saying(text, stream=True, **fields)))
    return text_of(answer.content)


async def cached_tokens(gateway: Gateway, text: str) -> int:
    """How much of the same prompt in one piece was in the cache."""
    asked = saying(text, stream=True, headstart={"timing": True})
    answer = await soon(gateway.client.post(CHAT, json=asked))
    last = json.loads(answer.content.split(b"data: ")[-2])
    return int(last["headstart"]["timing"]["cached_prompt_tokens"])


async def test_an_answer_is_planned_for_before_the_next_text_is_typed() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        session = gateway.live_prompts.get((await client.next())["session"]["id"], ANYONE)
        await client.type(LONG)
        await client.until_warm(WARM)
        before = session.progress.prompt_tokens
        await client.commit()

        await eventually(lambda: session.progress.version == session.version, within_s=20)
        assert session.progress.stable_tokens > before


async def test_typed_corrected_and_committed() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        created = await client.next()
        assert created["type"] == "session.created"
        await client.type(LONG)
        await client.until_warm(WARM)
        await client.say("input_text.replace", start=0, end=5, text="first")
        assert (await client.until("input_text.replaced"))["version"] == 2
        await client.type("and that is al")
        end = len(LONG + "and that is al")
        await client.say("input_text.replace", start=end - 2, end=end, text="all.")
        await client.until("input_text.replaced")
        expected = "first" + LONG[5:] + "and that is all."
        await client.until_warm(WARM)

        answer, done = await client.commit()

        assert done["response"]["status"] == "completed"
        assert answer == await plain(gateway, expected)
        timing = done["timing"]
        assert timing["cached_prompt_tokens"] >= timing["prompt_tokens"] - 2 * BLOCK
        assert timing["stages_s"]["prefill"] < 0.1 < timing["prompt_tokens"] / 2000
        assert done["computed_ahead"]["hidden_s"] > 0.15
        assert done["num_chars"] == 0


async def test_an_edit_says_how_much_warmth_it_took_away() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        await client.type(LONG)
        await client.until_warm(WARM)
        await client.say("input_text.replace", start=0, end=5, text="first")
        computed = await client.until("input_text.computed")
        assert (computed["version"], computed["warm_tokens"]) == (2, 0)
        await client.until_warm(WARM)


async def test_another_cache_salt_makes_it_cold_and_it_is_computed_again() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        await client.type(LONG)
        await client.until_warm(WARM)
        await client.say("session.update", session={"sampling": {"cache_salt": "mine"}})
        await client.until("session.updated")
        assert (await client.until("input_text.computed"))["warm_tokens"] == 0
        await client.until_warm(WARM)
        _, done = await client.commit()
        timing = done["timing"]
        assert timing["cached_prompt_tokens"] >= timing["prompt_tokens"] - 2 * BLOCK
        assert done["computed_ahead"]["tokens"] >= 2 * WARM


async def test_with_a_private_cache_nobody_finds_what_was_computed() -> None:
    async def commit(client: LiveClient) -> tuple[int, str]:
        await client.type(LONG)
        await client.until_warm(WARM)
        answer, done = await client.commit()
        cached: int = done["timing"]["cached_prompt_tokens"]
        assert cached >= WARM  # what it has computed itself
        return done["computed_ahead"]["tokens"], answer

    async with serving(slow()) as gateway:
        async with live(gateway) as client, live(gateway) as another:
            for one in (client, another):
                await one.say("session.update", session={"private_cache": True})
                assert (await one.until("session.updated"))["session"]["private_cache"] is True
            assert [(await commit(one))[0] for one in (client, another)] == [WARM, WARM]
            await client.type("And " + LONG)
            await client.until_warm(2 * WARM)
            _, done = await client.commit()  # the conversation goes on, its history warm
            assert done["timing"]["cached_prompt_tokens"] >= 2 * WARM
        salts = [json.loads(one.body)["cache_salt"] for one in gateway.replica.requests]
        assert salts[0] == salts[2] != salts[1]
        assert await cached_tokens(gateway, LONG) == 0
        assert await cached_tokens(gateway, LONG) >= WARM
        async with live(gateway) as client:  # and what all share, sessions find
            computed, answer = await commit(client)
            assert computed < WARM
        assert answer == await plain(gateway, LONG)


async def test_thoughts_are_cached_as_privately_as_their_text() -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        session = {"mode": "livemind", "livemind": {"show_thoughts": True}, "private_cache": True}
        await client.say("session.update", session=session)
        await client.type("The train leaves at noon. It")
        await client.until("input_text.reasoning")
        await client.commit()
        salts = {json.loads(one.body)["cache_salt"] for one in gateway.replica.requests}
        assert len(gateway.replica.requests) == 2
        assert len(salts) == 1


async def test_random_edits_end_in_the_plain_answer() -> None:
    async with serving(speeds(tokens_per_s=0, time_to_first_token_s=0)) as gateway:
        async with live(gateway) as client:
            for seed in range(60):
                changes, expected = script(seed, num_changes=20)
                for change in changes:
                    fields = {"start": change.start, "end": change.end, "text": change.text}
                    await client.say("input_text.replace", **fields)
                await client.say("session.update", session={"messages": []})
                if not expected:
                    continue
                answer, done = await client.commit()
                assert done["response"]["status"] == "completed"
                assert answer == await plain(gateway, expected)
        assert not [one for one in client.seen if one["type"] == "error"]


async def test_the_answer_is_a_stream_that_any_carrier_can_read(gateway: Gateway) -> None:
    async with live(gateway) as client:
        await client.type("Name three colours.")
        answer, done = await client.commit()
        stream_id = done["response"]["id"]

        found = await soon(gateway.client.get(f"/v1/streams/{stream_id}"))

    assert text_of(found.content) == answer
    assert found.headers["x-headstart-stream"] == stream_id


class Turns:
    """Counts turns of the event loop, and notes in which a stream grew."""

    def __init__(self) -> None:
        self.now = 0
        self.grown: list[int] = []
        self._tick()

    def _tick(self) -> None:
        self.now += 1
        self._next = asyncio.get_running_loop().call_soon(self._tick)

    def stop(self) -> None:
        self._next.cancel()

    def appended(self) -> None:
        self.grown.append(self.now)

    def marked(self, mark: Mark, at: float) -> None: ...

    def ended(self, end: StreamEnd) -> None: ...


async def test_a_delta_is_written_as_soon_as_its_reader_has_a_turn() -> None:
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    written: list[int] = []
    is_over = asyncio.Event()

    async def send(message: MutableMapping[str, Any]) -> None:
        if "response.output_text.delta" in message.get("text", ""):
            written.append(turns.now)
        elif "response.done" in message.get("text", ""):
            is_over.set()

    scope = {"type": "websocket", "path": "/", "query_string": b"model=fake", "headers": []}
    async with serving(speeds(tokens_per_s=100.0, answer_tokens=16)) as gateway:
        socket = WebSocket(scope | {"state": {"caller": ANYONE}}, heard.get, send)
        heard.put_nowait({"type": "websocket.connect"})
        turns = Turns()
        live_socket = LiveSocket(socket, gateway.live_prompts)
        serve = asyncio.ensure_future(live_socket.run())
        typed = {"type": "input_text.append", "text": "Go on."}
        for event in (typed, {"type": "input_text.commit"}):
            heard.put_nowait({"type": "websocket.receive", "text": json.dumps(event)})
        await eventually(lambda: len(gateway.streams.live) == 1)
        gateway.live.listen(turns)
        begins = turns.now + 1
        await soon(is_over.wait())
        turns.stop()
        heard.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await soon(serve)
    seen = [at for at in written if at > begins]
    assert len(seen) > 4
    assert all(at - 1 in turns.grown for at in seen)


async def test_the_conversation_goes_on_and_its_history_is_warm() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        await client.say("session.update", session={"instructions": "Be brief."})
        await client.type(LONG)
        first, _ = await client.commit()
        await client.type("And what of the second part of it? Say more about it, please.")
        await client.until_warm(WARM)
        second, done = await client.commit()

        request = gateway.replica.requests[-1]
        messages = json.loads(request.body)["messages"]
        assert [one["role"] for one in messages] == ["system", "user", "assistant", "user"]
        assert messages[2]["content"] == first
        assert (messages[3]["content"], second != "") == (
            "And what of the second part of it? Say more about it, please.",
            True,
        )
        assert done["timing"]["cached_prompt_tokens"] >= WARM
        assert done["computed_ahead"]["tokens"] <= 2 * BLOCK


async def test_tool_calls_are_part_of_the_conversation(gateway: Gateway) -> None:
    chunk = {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fake",
        "choices": [
            {
                "index": 0,
                "delta": {
                    "tool_calls": [
                        {"index": 0, "id": "1", "function": {"name": "f", "arguments": '{"a":'}}
                    ]
                },
            }
        ],
    }
    more = json.loads(json.dumps(chunk))
    more["choices"][0]["delta"]["tool_calls"][0] = {"index": 0, "function": {"arguments": "1}"}}
    stream = Stream("one", 1 << 20)
    stream.append(StreamHeader(200, "text/event-stream", "chat", "x", "fake", 1))
    stream.append(Frame(0, Channel.CONTENT, "Let me see.", (1,), 0))
    for one in (chunk, more):
        stream.append(Frame(0, Channel.TOOL, "", (2,), 0, json.dumps(one).encode()))
    stream.append(Frame(1, Channel.CONTENT, "another choice", (1,), 0))

    message = said(stream)

    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    assert message == {"role": "assistant", "content": "Let me see.", "tool_calls": [call]}


def test_each_delta_has_the_cursor_behind_its_own_text() -> None:
    spoken = [(Channel.REASONING, "Let "), (Channel.REASONING, "me."), (Channel.CONTENT, "Yes")]
    frames = [
        (10 * number, Frame(0, channel, text, (1,), 0))
        for number, (channel, text) in enumerate([*spoken, (Channel.TOOL, "")], 1)
    ]
    assert [(one["delta"], one["cursor"]) for one in deltas(frames)] == [
        ("Let me.", 20),
        ("Yes", 30),
    ]


async def test_cancelling_stops_the_answer_and_the_conversation_goes_on() -> None:
    async with serving(speeds(answer_tokens=10_000, tokens_per_s=100)) as gateway:
        async with live(gateway) as client:
            await client.type("Count to a million.")
            await client.say("input_text.commit")
            await client.until("response.output_text.delta")
            await client.say("response.cancel")
            done = await client.until("response.done")
            assert done["response"]["status"] == "cancelled"
            assert (await client.type("Enough."))["num_chars"] == len("Enough.")
        await gateway.replica.idle(5)


async def test_what_was_computed_for_an_answer_counts_though_its_session_is_closed() -> None:
    quick = speeds(prefill_tokens_per_s=4000.0, tokens_per_s=100.0, answer_tokens=30)
    async with serving(quick) as gateway, live(gateway) as client:
        await client.type(LONG)
        await client.until_warm(WARM)
        await client.say("input_text.commit")
        await client.until("response.output_text.delta")
        await client.say("session.close")
        assert await client.closed() == 4002
        await eventually(lambda: not gateway.streams.live)
        after = gateway.exposition()

    assert after.value("headstart_live_wasted_tokens_total", model="fake") == 0
    assert after.value("headstart_live_committed_tokens_total", model="fake") > 400
    assert after.value("headstart_live_cached_share_count", model="fake") == 1


async def test_death_of_the_replica_while_typing_costs_only_warmth() -> None:
    async with serving(slow(), slow()) as gateway, live(gateway) as client:
        await client.type(LONG)
        await client.until_warm(WARM)
        (session,) = (kept.session for kept in gateway.live_prompts._kept.values())
        link = session.ahead.warmer.link
        assert link is not None
        (dead,) = [one for one in gateway.replicas if link.address.endswith(f":{one.port}")]
        await dead.die()
        await eventually(lambda: not link.is_up)
        await client.type("and the end of it all.")
        await client.until_warm(WARM)
        answer, done = await client.commit()

        assert session.ahead.warmer.link is not link
        assert done["response"]["status"] == "completed"
        assert done["timing"]["cached_prompt_tokens"] > 300
        assert answer == await plain(gateway, LONG + "and the end of it all.")


async def test_nothing_is_computed_while_others_wait() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        others = [Stream(str(number), 1 << 20) for number in range(2)]
        lane = gateway.replica.engine._lane
        for one in others:
            lane.give_way_to(one)
        await client.type(LONG)
        await client.until("input_text.computed")  # it was rendered
        assert gateway.replica.engine.load().running == 0
        for one in others:
            one.finish(StreamEnd())
        await client.until_warm(WARM)


async def test_what_is_measured() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        await client.type(LONG)
        await client.until_warm(WARM)
        before = gateway.exposition()
        assert before.value("headstart_live_sessions") == 1
        assert before.value("headstart_live_edits_total", kind="append") == 1
        computed = before.value("headstart_live_warm_tokens_total", model="fake")
        assert computed == WARM
        await client.commit()
        after = gateway.exposition()

    assert after.value("headstart_live_committed_tokens_total", model="fake") > 400
    assert after.value("headstart_live_hidden_seconds_total", model="fake") > 0.1
    assert after.value("headstart_live_wasted_tokens_total", model="fake") == 0
    assert after.value("headstart_live_cached_share_bucket", model="fake", le="0.9") == 0
    assert after.value("headstart_live_cached_share_count", model="fake") == 1
    for stage in ("ingest", "segment", "render", "warm"):
        assert after.value("headstart_live_stage_seconds_count", stage=stage, model="fake") > 0
    await eventually(
        lambda: (
            gateway.exposition().value(
                "headstart_requests_total", model="fake", route="live", outcome="completed"
            )
            == 1
        )
    )
