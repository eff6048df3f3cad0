"""Whatever a live prompt's client does wrong: an event that says so, and the session goes on."""

import asyncio
import json
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from headstart.cluster.remote_engine import RemoteEngine
from headstart.configs.live import LiveSettings
from headstart.pipeline import live_session, live_socket
from headstart.pipeline.access import ANYONE
from headstart.pipeline.live_ahead import LiveAhead
from headstart.pipeline.live_events import Append, SessionConfig
from headstart.pipeline.live_history import tokens_of
from headstart.stages.errors import NotFound
from tests.pipeline.live_client import is_usable, live
from tests.support.events import text as text_of
from tests.support.gateway import Gateway, serving, speeds
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


FAULTS: dict[str, tuple[Any, str]] = {
    "unknown event": ({"type": "input_audio.append"}, "unknown_event"),
    "no type": ({"text": "a"}, "invalid_event"),
    "no text": ({"type": "input_text.append"}, "invalid_event"),
    "a field too many": ({"type": "input_text.clear", "all": True}, "invalid_event"),
    "text that is none": ({"type": "input_text.append", "text": 1}, "invalid_event"),
    "out of range": (
        {"type": "input_text.replace", "start": 3, "end": 99, "text": ""},
        "out_of_range",
    ),
    "backwards": ({"type": "input_text.replace", "start": 2, "end": 1, "text": ""}, "out_of_range"),
    "negative": ({"type": "input_text.replace", "start": -1, "end": 0, "text": ""}, "out_of_range"),
    "1 MB": ({"type": "input_text.append", "text": "x" * 1_000_000}, "text_too_long"),
    "old version": (
        {"type": "input_text.append", "text": "a", "version": 17},
        "version_conflict",
    ),
    "nothing to cancel": ({"type": "response.cancel"}, "no_response"),
    "another mode": ({"type": "session.update", "session": {"mode": "psychic"}}, "invalid_event"),
    "another model": ({"type": "session.update", "session": {"model": "none"}}, "model_not_found"),
    "a field of ours": (
        {"type": "session.update", "session": {"sampling": {"stream": False}}},
        "invalid_event",
    ),
    "a salt that is none": (
        {"type": "session.update", "session": {"sampling": {"cache_salt": [1]}}},
        "invalid_event",
    ),
    "an option that is none": (
        {"type": "session.update", "session": {"sampling": {"headstart": {"speculation": "x"}}}},
        "bad_request",
    ),
    "not a list": ({"type": "session.update", "session": {"messages": "x"}}, "invalid_event"),
    "too long a history": (
        {"type": "session.update", "session": {"instructions": "x" * 1_000_000}},
        "text_too_long",
    ),
    "not JSON": ("{", "invalid_event"),
    "a list": ([1], "invalid_event"),
    "invalid UTF-8": (b'{"type": "input_text.append", "text": "\xff"}', "invalid_event"),
    "half a surrogate pair": ('{"type":"input_text.append","text":"\\ud800"}', "invalid_event"),
    "nested too deep": ("[" * 100_000, "invalid_event"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_bad_events(gateway: Gateway, fault: str) -> None:
    event, code = FAULTS[fault]
    async with live(gateway) as client:
        await client.type("some text")
        data = event if isinstance(event, str | bytes) else json.dumps(event)

        await client.socket.send(data)

        error = await client.error()
        assert error["code"] == code
        assert error["message"]
        assert (await client.type("!"))["num_chars"] == len("some text!")
        await is_usable(client)


async def test_an_error_names_the_event(gateway: Gateway) -> None:
    async with live(gateway) as client:
        for kind in ("no.such", "input_text.commit"):
            await client.say(kind, event_id=f"my {kind}")
            assert (await client.error())["event_id"] == f"my {kind}"


async def test_empty_commit(gateway: Gateway) -> None:
    async with live(gateway) as client:
        await client.say("input_text.commit")
        assert (await client.error())["code"] == "nothing_to_commit"
        await is_usable(client)


async def test_commit_twice_and_append_after_commit() -> None:
    slow = speeds(tokens_per_s=50, answer_tokens=20)
    async with serving(slow) as gateway, live(gateway) as client:
        await client.type("Name three colours.")
        await client.say("input_text.commit")
        for event in (
            {"type": "input_text.commit"},
            {"type": "input_text.append", "text": "more"},
            {"type": "session.update", "session": {"instructions": "No."}},
        ):
            await client.socket.send(json.dumps(event))
            assert (await client.error())["code"] == "response_in_progress"
        done = await client.until("response.done")
        assert done["response"]["status"] == "completed"
        await is_usable(client)


async def test_context_overflow_while_typing() -> None:
    small = speeds().model_copy(update={"max_model_len": 64})
    async with serving(small) as gateway, live(gateway) as client:
        await client.type("word " * 100)
        error = await client.error()
        too_long = ("context_length_exceeded", "BadRequestError", "input_tokens")
        assert (error["code"], error["type"], error["param"]) == too_long
        await client.say("input_text.commit")
        done = await client.until("response.done")
        assert done["response"]["status"] == "failed"
        error = done["response"]["error"]
        assert (error["code"], error["type"], error["param"]) == too_long
        assert "context length" in error["message"]
        assert done["num_chars"] == len("word " * 100)  # nothing is lost
        await is_usable(client)


async def test_a_text_beyond_the_context_is_refused_once_however_long_it_gets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, num_renders = RemoteEngine.render, 0

    async def counted(link: RemoteEngine, request: Any) -> list[int]:
        nonlocal num_renders
        num_renders += 1
        return await whole(link, request)

    monkeypatch.setattr(RemoteEngine, "render", counted)
    small = speeds().model_copy(update={"max_model_len": 64})
    async with serving(small) as gateway, live(gateway) as client:
        session = gateway.live_prompts.get((await client.next())["session"]["id"], ANYONE)
        pace = session.ahead.warmer._policy._rendering
        await client.until("input_text.computed")
        await client.type("word " * 100)
        await client.error()
        before = num_renders
        for _ in range(20):
            await client.type("more ")
        await eventually(lambda: pace.deadline() is None and not pace._is_rendering)
        assert num_renders == before

        await client.say("input_text.replace", start=0, end=4, text="sord")  # no shorter
        await eventually(lambda: num_renders > before)
        await eventually(lambda: not pace._is_rendering)
        await client.say("input_text.replace", start=40, end=len(session.text), text="")
        await client.until("input_text.computed")
        assert [one["type"] for one in client.seen].count("error") == 1


async def test_no_replica_at_commit_loses_nothing() -> None:
    async with serving(is_connected=False) as gateway, live(gateway) as client:
        await client.type("Name three colours.")
        await client.say("input_text.commit")
        assert (await client.error())["type"] == "ServiceUnavailableError"
        await gateway.connect()
        answer, done = await client.commit()
        assert done["response"]["status"] == "completed"
        assert answer


@pytest.mark.parametrize("call", ["render", "warm"])
async def test_a_fault_of_ours_while_computing_wedges_nothing(
    gateway: Gateway, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, faults = getattr(RemoteEngine, call), [RuntimeError("a bug")]

    async def broken(*args: Any, **kwargs: Any) -> Any:
        if faults:
            raise faults.pop()
        return await whole(*args, **kwargs)

    monkeypatch.setattr(RemoteEngine, call, broken)
    async with live(gateway) as client:
        await client.type("word " * 200)
        await eventually(lambda: not faults)
        await client.type("more " * 100)
        await client.until_warm(192)


async def test_an_answer_that_cannot_be_carried_is_told_of(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> None:
        raise RuntimeError("a bug")

    async with live(gateway) as client:
        await client.type("Name three colours.")
        with monkeypatch.context() as patch:
            patch.setattr(live_socket, "deltas", broken)
            await client.say("input_text.commit")
            assert (await client.error())["type"] == "InternalServerError"
        await eventually(lambda: not gateway.streams.live)
        await is_usable(client)


async def test_a_commit_that_comes_at_once_waits_for_the_answer_before(gateway: Gateway) -> None:
    async with live(gateway) as client:
        session = gateway.live_prompts.get((await client.next())["session"]["id"], ANYONE)
        (kept,) = gateway.live_prompts._kept.values()
        watcher: Any = kept.session.watcher
        await client.type("Name three colours.")
        async with watcher._writing:  # the client is slow to read
            await client.say("input_text.commit")
            await eventually(lambda: session.answer is not None and not session.is_answering)
            await client.say("input_text.append", text="And three more.")
            await client.say("input_text.commit")
            await eventually(lambda: session.is_answering)
        first, second = [(await client.until("response.done"))["response"] for _ in range(2)]
        assert first["id"] != second["id"]
        assert (first["status"], second["status"]) == ("completed", "completed")


async def test_lost_socket_keeps_the_session_and_its_answer() -> None:
    async with serving(speeds(tokens_per_s=50, answer_tokens=40)) as gateway:
        async with live(gateway) as client:
            created = await client.next()
            await client.type("Name three colours.")
        query = f"?session={created['session']['id']}"
        async with live(gateway, query) as client:
            resumed = await client.next()
            assert resumed["type"] == "session.resumed"
            assert resumed["session"]["num_chars"] == len("Name three colours.")
            await client.say("input_text.commit")
            first = await client.until("response.output_text.delta")
        async with live(gateway, f"{query}&after={first['cursor']}") as client:
            done = await client.until("response.done")
            rest = [one for one in client.seen if one["type"] == "response.output_text.delta"]
        stream = await soon(gateway.client.get(f"/v1/streams/{done['response']['id']}"))

        assert first["delta"] + "".join(one["delta"] for one in rest) == text_of(stream.content)


async def test_a_second_socket_takes_over(gateway: Gateway) -> None:
    async with live(gateway) as first:
        created = await first.next()
        await first.type("Name three ")
        async with live(gateway, f"?session={created['session']['id']}") as second:
            assert (await first.error())["code"] == "taken_over"
            assert await first.closed() == 4001
            assert (await second.type("colours."))["num_chars"] == len("Name three colours.")
            await is_usable(second)


async def test_idle_sessions_expire_and_lost_ones_sooner() -> None:
    clock = Clock()
    limits = LiveSettings(idle_timeout_s=100, resume_s=10)
    async with serving(now=clock, live=limits) as gateway:
        async with live(gateway) as client:
            created = await client.next()
            await client.type("a")
            clock.now += 99
            gateway.live_prompts.expire()
            await client.type("b")
            clock.now += 99
            gateway.live_prompts.expire()
            await client.type("c")
        await eventually(
            lambda: not any(k.session.watcher for k in gateway.live_prompts._kept.values())
        )
        clock.now += 11
        gateway.live_prompts.expire()
        assert len(gateway.live_prompts) == 0
        async with live(gateway, f"?session={created['session']['id']}") as client:
            assert (await client.error())["type"] == "NotFoundError"
        async with live(gateway) as client:
            await client.type("a")
            clock.now += 101
            gateway.live_prompts.expire()
            assert (await client.error())["code"] == "session_ended"
            assert await client.closed() == 4002


async def test_a_session_that_is_lost_while_it_is_answered_is_kept_no_longer() -> None:
    clock = Clock()
    limits = LiveSettings(idle_timeout_s=100, resume_s=10)
    slow = speeds(tokens_per_s=100, answer_tokens=10_000)
    async with serving(slow, now=clock, live=limits) as gateway:
        async with live(gateway) as client:
            await client.type("Count to a million.")
            await client.say("input_text.commit")
            await client.until("response.output_text.delta")
        await eventually(
            lambda: not any(k.session.watcher for k in gateway.live_prompts._kept.values())
        )
        clock.now += 11
        gateway.live_prompts.expire()
        assert len(gateway.live_prompts) == 1
        await gateway.pool.continuity.abort(gateway.live)
        (kept,) = gateway.live_prompts._kept.values()
        await eventually(lambda: not kept.session.is_answering)
        clock.now += 11
        gateway.live_prompts.expire()
        assert len(gateway.live_prompts) == 0


async def test_closing_forgets_the_text(gateway: Gateway) -> None:
    async with live(gateway) as client:
        await client.type("a secret")
        (kept,) = gateway.live_prompts._kept.values()
        await client.say("session.close")
        assert (await client.error())["code"] == "session_ended"
        await eventually(lambda: kept.session.text == "")
        assert len(gateway.live_prompts) == 0


async def test_what_is_closed_cannot_be_changed(gateway: Gateway) -> None:
    room = gateway.live_prompts._services.shares.chars
    free, session = room.free_bytes, gateway.live_prompts.create(ANYONE)
    session.start()
    session.edit(Append(text="a secret"))
    await soon(session.close())
    for change in (
        partial(session.edit, Append(text="x" * 1000)),
        partial(session.configure, SessionConfig(instructions="x" * 1000)),
    ):
        with pytest.raises(NotFound):
            change()
    with pytest.raises(NotFound):
        await session.commit()
    assert room.free_bytes == free


async def test_an_answer_that_ends_while_its_session_is_closed_takes_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, gate = LiveAhead.close, asyncio.Event()

    async def held(ahead: LiveAhead) -> None:
        await gate.wait()
        await whole(ahead)

    monkeypatch.setattr(LiveAhead, "close", held)
    async with serving(speeds(answer_tokens=100_000)) as gateway:
        room = gateway.live_prompts._services.shares.chars
        free, session = room.free_bytes, gateway.live_prompts.create(ANYONE)
        session.edit(Append(text="Count to a million."))
        answer = await session.commit()
        await eventually(lambda: len(tokens_of(answer.stream)) > 4)
        closing = asyncio.ensure_future(session.close())
        await eventually(lambda: not session.text)
        await gateway.pool.continuity.abort(answer.stream)
        await soon(asyncio.shield(answer.settled))
        gate.set()
        await soon(closing)
        assert room.free_bytes == free


async def test_a_gateway_that_stops_ends_its_sessions(gateway: Gateway) -> None:
    session = gateway.live_prompts.create(ANYONE)
    session.start()
    session.edit(Append(text="word " * 200))
    await eventually(lambda: session.progress.warm_tokens > 0)

    await soon(gateway.live_prompts.close())

    assert session.text == ""
    assert gateway.exposition().value("headstart_live_wasted_tokens_total", model="fake") > 0


async def test_what_is_being_computed_when_a_session_ends_is_waste(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, ends = RemoteEngine.warm, list[int]()

    async def held(link: RemoteEngine, tokens: list[int], **options: Any) -> Any:
        ends.append(len(tokens) - 1)
        if len(ends) == 3:
            await asyncio.Event().wait()
        return await whole(link, tokens, **options)

    monkeypatch.setattr(RemoteEngine, "warm", held)
    session = gateway.live_prompts.create(ANYONE)
    session.start()
    session.edit(Append(text="word " * 400))
    await eventually(lambda: len(ends) == 3)

    await soon(session.close())

    found = gateway.exposition()
    assert found.value("headstart_live_warm_tokens_total", model="fake") == ends[1]
    assert found.value("headstart_live_wasted_tokens_total", model="fake") == ends[2]


async def test_an_account_that_fails_does_not_keep_an_answer_from_its_end(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    async with live(gateway) as client:
        await client.type("Name three colours.")
        with monkeypatch.context() as patch:
            patch.setattr(LiveAhead, "settle", broken)
            answer, done = await client.commit()
        assert answer
        assert done["response"]["status"] == "completed"
        assert "computed_ahead" not in done
        await is_usable(client)


async def test_what_follows_an_edit_is_not_timed_as_the_edit(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, follow = Clock(), LiveAhead.edited

    def slow(ahead: LiveAhead, start: int, length: int) -> None:
        clock.now += 100
        follow(ahead, start, length)

    monkeypatch.setattr(live_session, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(LiveAhead, "edited", slow)
    gateway.live_prompts.create(ANYONE).edit(Append(text="word"))
    assert clock.now == 1100
    seconds = "headstart_live_stage_seconds_sum"
    assert gateway.exposition().value(seconds, stage="ingest", model="fake") == 0


async def test_a_client_that_does_not_read_is_dropped_and_can_come_back(gateway: Gateway) -> None:
    async with live(gateway, max_queue=1) as client:
        created = await client.next()
        text = "Name three colours."
        await client.type(text)
        for number in range(1000):  # each is answered with its id, and no answer is read
            with suppress(ConnectionClosed):
                await client.say("no.such", event_id=f"{number}" * 1000)
        assert await client.closed() == 4008
        told = [one for one in client.seen if one["type"] == "error"]
        assert 256 <= len(told) < 1000
        ids = [one["error"]["event_id"] for one in told]
        assert ids == [f"{number}" * 1000 for number in range(len(told))]  # none is left out
    async with live(gateway, f"?session={created['session']['id']}") as client:
        assert (await client.next())["session"]["num_chars"] == len(text)
        await is_usable(client)


async def test_a_client_that_never_reads_is_hung_up_on(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_socket, "_CLOSE_S", 0.05)
    async with live(gateway) as client:
        await client.next()
        (kept,) = gateway.live_prompts._kept.values()
        watcher: Any = kept.session.watcher
        async with watcher._writing:
            while not watcher._over.done():
                watcher.tell(NotFound("nobody reads this"))
            assert await soon(client.closed(), 10.0) != 4008  # that would be read last
        assert kept.session.watcher is None
