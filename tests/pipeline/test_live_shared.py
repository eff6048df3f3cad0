"""A live prompt that more than one connection has to do with: HTTP and a WebSocket."""

import asyncio
from typing import Any

import pytest

from headstart.cluster.continuity import Continuity
from headstart.cluster.stream import Stream
from headstart.pipeline.access import ANYONE
from tests.pipeline.live_client import LiveClient, live
from tests.pipeline.thinking import FIRST, begun, slow, think
from tests.support.gateway import serving, speeds
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

TEXT = "Name three colours."
LONG = " ".join(f"word{number}" for number in range(200))
AHEAD = ("response", "timing", "computed_ahead")


def path_of(client: LiveClient) -> str:
    return f"/v1/live/{client.seen[0]['session']['id']}"


def append(text: str) -> dict[str, Any]:
    return {"type": "input_text.append", "text": text}


async def test_http_tells_of_an_answers_end_what_the_websocket_does() -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        await client.type(LONG)
        await client.until_warm(96)
        before = (await soon(gateway.client.get(path_of(client)))).json()
        assert not before.keys() & set(AHEAD)
        _, done = await client.commit()
        after = (await soon(gateway.client.get(path_of(client)))).json()

        assert {name: after[name] for name in AHEAD} == {name: done[name] for name in AHEAD}
        assert after["computed_ahead"]["tokens"] >= 96
        assert after["response"]["status"] == "completed"


async def test_http_tells_of_an_answer_that_failed() -> None:
    small = speeds().model_copy(update={"max_model_len": 64})
    async with serving(small) as gateway, live(gateway) as client:
        text = "word " * 100
        await client.type(text)
        _, done = await client.commit()
        after = (await soon(gateway.client.get(f"{path_of(client)}?text=1"))).json()
        assert (after["response"]["status"], after["text"]) == ("failed", text)
        assert {name: after[name] for name in AHEAD} == {name: done[name] for name in AHEAD}


async def test_whoever_watches_is_told_what_http_has_changed() -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        await client.type("Name")
        path = path_of(client)
        body = {"session": {"instructions": "Be brief."}, "edits": [append(" three colours.")]}
        edited = (await soon(gateway.client.patch(path, json=body))).json()
        assert (await client.until("session.updated"))["session"]["id"] == edited["id"]
        changed = await client.until("input_text.changed")
        assert (changed["version"], changed["num_chars"]) == (2, len(TEXT))

        bad = {"type": "input_text.replace", "start": 5, "end": 99, "text": ""}
        refused = await soon(gateway.client.patch(path, json={"edits": [append("!"), bad]}))
        assert refused.status_code == 400
        assert (await client.until("input_text.changed"))["version"] == 3

        answer = await soon(gateway.client.post(f"{path}/commit"))
        await client.until("input_text.committed")
        created = await client.until("response.created")
        assert created["response"]["id"] == answer.headers["x-headstart-stream"]
        await client.until("response.output_text.delta")
        done = await client.until("response.done")
        assert done["response"]["status"] == "completed"
        after = (await soon(gateway.client.get(path))).json()
        assert done["computed_ahead"] == after["computed_ahead"]


async def test_what_one_connection_does_is_not_told_it_twice() -> None:
    async with serving(speeds()) as gateway, live(gateway) as client:
        await client.type("Name")
        refused = await soon(gateway.client.patch(path_of(client), json={"edits": []}))
        assert refused.is_success
        await client.commit()
        kinds = [one["type"] for one in client.seen]
        assert "input_text.changed" not in kinds
        assert kinds.count("input_text.committed") == kinds.count("response.done") == 1


async def test_an_answer_is_cancelled_over_http() -> None:
    async with serving(speeds(answer_tokens=2000)) as gateway, live(gateway) as client:
        await client.type(TEXT)
        path = path_of(client)
        idle = await soon(gateway.client.post(f"{path}/cancel"))
        assert (idle.status_code, idle.json()["error"]["code"]) == (409, "no_response")
        await client.say("input_text.commit")
        created = await client.until("response.created")
        during = (await soon(gateway.client.get(path))).json()
        assert during["response"] == {"id": created["response"]["id"], "status": "in_progress"}
        assert (during["is_committing"], during["is_answering"]) == (False, True)
        assert not during.keys() & {"timing", "computed_ahead"}
        cancelled = (await soon(gateway.client.post(f"{path}/cancel"))).json()
        assert cancelled["response"]["status"] == "cancelled"
        assert not cancelled["is_answering"]
        assert (await client.until("response.done"))["response"]["status"] == "cancelled"


async def test_a_cancel_ends_with_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, has_begun, gate = Continuity.abort, asyncio.Event(), asyncio.Event()

    async def held(continuity: Continuity, stream: Stream) -> None:
        has_begun.set()
        await gate.wait()
        await whole(continuity, stream)

    async with serving(speeds(answer_tokens=2000)) as gateway, live(gateway) as client:
        await client.type(TEXT)
        path = path_of(client)
        await client.say("input_text.commit")
        await client.until("response.created")
        session = gateway.live_prompts.get(path.rpartition("/")[2], ANYONE)
        monkeypatch.setattr(Continuity, "abort", held)
        asked = asyncio.ensure_future(gateway.client.post(f"{path}/cancel"))
        await soon(has_begun.wait())
        assert (await soon(gateway.client.delete(path))).status_code == 204
        await eventually(lambda: not gateway.live_prompts._tasks)
        gate.set()
        assert (await soon(asked, 10.0)).status_code == 404
        assert not session.is_answering


async def test_a_commit_that_waits_is_cancelled_over_http() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        await think(client, at_commit="wait")
        await client.type(FIRST + "It")
        await begun(gateway)
        await client.say("input_text.commit", event_id="mine")
        await client.say("input_text.append", text="x")
        assert (await client.error())["code"] == "response_in_progress"
        during = (await soon(gateway.client.get(path_of(client)))).json()
        assert (during["is_committing"], during["is_answering"]) == (True, False)
        state = (await soon(gateway.client.post(f"{path_of(client)}/cancel"))).json()
        error = await client.error()
        assert (error["code"], error["event_id"]) == ("commit_cancelled", "mine")
        assert (state["num_chars"], state["is_committing"]) == (len(FIRST + "It"), False)
