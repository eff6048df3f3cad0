"""Live prompts over plain HTTP, and over QUIC, which carries the same requests."""

import json
from hashlib import sha256
from typing import Any

import pytest

from headstart.configs.serving import QuicSettings
from headstart.monitoring.labels import Outcome
from headstart.pipeline.live_events import MAX_EDITS
from headstart.stages import segmenter
from headstart.stages.segmenter import segment_ends
from tests.support.events import text as text_of
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds
from tests.support.sessions import events_of, session_with, whole
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

TEXT = "Name three colours."


async def begin(gateway: Gateway, **body: Any) -> str:
    answer = await soon(gateway.client.post("/v1/live", json=body))
    assert answer.status_code == 201, answer.text
    return f"/v1/live/{answer.json()['id']}"


def append(text: str) -> dict[str, Any]:
    return {"type": "input_text.append", "text": text}


async def test_begun_edited_and_committed(gateway: Gateway) -> None:
    path = await begin(gateway, session={"instructions": "Be brief."}, text="Name three ")
    edits = [
        append("colors."),
        {"type": "input_text.replace", "start": 15, "end": 15, "text": "u"},
    ]

    state = (await soon(gateway.client.patch(path, json={"edits": edits}))).json()
    answer = await soon(gateway.client.post(f"{path}/commit"))

    assert (state["version"], state["num_chars"]) == (3, len(TEXT))
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT}]
    plain = await soon(gateway.client.post(CHAT, json=saying(stream=True) | {"messages": messages}))
    assert text_of(answer.content) == text_of(plain.content)
    found = await soon(gateway.client.get(f"/v1/streams/{answer.headers['x-headstart-stream']}"))
    assert text_of(found.content) == text_of(answer.content)
    await eventually(lambda: gateway.count(Outcome.COMPLETED) == 2)
    after = (await soon(gateway.client.get(path))).json()
    assert (after["num_chars"], after["is_answering"]) == (0, False)
    assert (await gateway.client.delete(path)).status_code == 204
    assert (await gateway.client.get(path)).status_code == 404


async def test_what_is_refused(gateway: Gateway) -> None:
    path = await begin(gateway, text=TEXT)
    bad = {"type": "input_text.replace", "start": 5, "end": 99, "text": ""}
    refusals: list[tuple[Any, int, Any]] = [
        ({"edits": [append("!"), bad, append("?")]}, 400, "out_of_range"),
        ({"edits": [append("x" * 1_000_000)]}, 400, "text_too_long"),
        ({"edits": [append("")] * (MAX_EDITS + 1)}, 400, "invalid_body"),
        ({"edits": [append("x") | {"version": 77}]}, 409, "version_conflict"),
        ({"edits": [{"type": "input_text.commit"}]}, 400, "invalid_body"),
        ({"session": {"model": "none"}}, 404, "model_not_found"),
        ([1], 400, "invalid_body"),
    ]
    for body, status, code in refusals:
        answer = await soon(gateway.client.patch(path, json=body))
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), body
    for content in (b"{", b'{"edits": [{"type": "input_text.append", "text": "\xff"}]}'):
        answer = await soon(gateway.client.patch(path, content=content))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_body")
    # The one before the bad edit was made, the one after it was not.
    assert (await gateway.client.get(path)).json()["num_chars"] == len(TEXT) + 1
    for method in ("GET", "PATCH", "DELETE"):
        answer = await soon(gateway.client.request(method, "/v1/live/nobody", content=b"{}"))
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"
    begun = await soon(gateway.client.post("/v1/live", json={"session": {"model": "none"}}))
    assert begun.status_code == 404
    assert len(gateway.live_prompts) == 1


async def test_many_edits_in_one_request_are_followed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work: list[int] = []

    def segment(text: str, *_: Any, **__: Any) -> list[int]:
        work.append(len(text))
        return segment_ends(text)

    monkeypatch.setattr(segmenter, "segment_ends", segment)
    async with serving(speeds()) as gateway:
        text = "Name three colours. " * 10_000
        path = await begin(gateway, session={"mode": "livemind"}, text=text)
        replaced = {"type": "input_text.replace", "start": 0, "end": 1, "text": "N"}
        for edits in ([replaced] * MAX_EDITS, [append("x")] * MAX_EDITS):
            work.clear()
            answer = await soon(gateway.client.patch(path, json={"edits": edits}))
            assert answer.json()["version"] >= MAX_EDITS
            assert len(work) <= 2


async def test_edits_that_come_with_the_commit(gateway: Gateway) -> None:
    path = await begin(gateway, text="Name three ")
    colours = append("colours") | {"version": 1}
    stop = append(".") | {"version": 2}
    assert (await soon(gateway.client.patch(path, json={"edits": [colours]}))).is_success
    digest = sha256(TEXT.encode()).hexdigest()
    body = {"edits": [colours, stop], "version": 3, "sha256": digest}

    answer = await soon(gateway.client.post(f"{path}/commit", json=body))

    plain = await soon(gateway.client.post(CHAT, json=saying(TEXT, stream=True)))
    assert text_of(answer.content) == text_of(plain.content)


async def test_edits_that_come_with_a_commit_that_is_refused(gateway: Gateway) -> None:
    path = await begin(gateway, text=TEXT)
    bad = {"type": "input_text.replace", "start": 5, "end": 99, "text": "", "version": 1}
    refusals: list[tuple[dict[str, Any], int, str]] = [
        ({"edits": [append("!")]}, 400, "invalid_body"),
        ({"edits": [bad]}, 400, "out_of_range"),
        ({"edits": [append("!") | {"version": 7}]}, 409, "version_conflict"),
        ({"edits": [append("!") | {"version": 1}] * (MAX_EDITS + 1)}, 400, "invalid_body"),
        # It is taken for one that was made, but the text tells that it was another.
        ({"edits": [append("?") | {"version": 0}], "sha256": "0" * 64}, 409, "version_conflict"),
    ]
    for body, status, code in refusals:
        answer = await soon(gateway.client.post(f"{path}/commit", json=body))
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), body
    state = (await soon(gateway.client.get(f"{path}?text=1"))).json()
    assert (state["text"], state["version"], state["is_answering"]) == (TEXT, 1, False)


async def test_one_answer_at_a_time() -> None:
    async with serving(speeds(answer_tokens=2000)) as gateway:
        path = await begin(gateway, text=TEXT)
        async with gateway.client.stream("POST", f"{path}/commit") as answer:
            assert answer.status_code == 200
            for again in (
                gateway.client.post(f"{path}/commit"),
                gateway.client.patch(path, json={"edits": [append("more")]}),
            ):
                refused = await soon(again)
                assert refused.status_code == 409
                assert refused.json()["error"]["code"] == "response_in_progress"
            stream_id = answer.headers["x-headstart-stream"]
            assert (await gateway.client.delete(f"/v1/streams/{stream_id}")).status_code == 204
        await eventually(lambda: not gateway.streams.live)
        assert (await soon(gateway.client.patch(path, json={"edits": [append("!")]}))).is_success


async def test_over_quic() -> None:
    async with serving(speeds(), quic=QuicSettings()) as gateway, session_with(gateway) as session:
        begun = await soon(session.ask("POST", "/v1/live", body=b"{}"))
        await soon(begun.finished())
        path = f"/v1/live/{json.loads(begun.body)['id']}"
        body = json.dumps({"edits": [append(TEXT)]}).encode()
        edited = await soon(session.ask("PATCH", path, body=body))
        await soon(edited.finished())
        assert json.loads(edited.body)["num_chars"] == len(TEXT)

        log = await whole(await soon(session.ask("POST", f"{path}/commit")))

        plain = await soon(gateway.client.post(CHAT, json=saying(TEXT, stream=True)))
        assert text_of(events_of(log)) == text_of(plain.content)
        assert gateway.exposition().value("headstart_datagrams_total", cause="new") > 0
