"""Requests of every kind, whose prompts are made of words that nothing else has.

Good ones, refused ones, broken ones, aborted ones, and one that makes a watched engine fail
(tests/support/watching).
"""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import connect

from tests.support.events import text
from tests.support.raw_http import connected

__all__ = ["FAIL", "SAID", "WATCHING", "ask_everything"]

WATCHING = Path(__file__).parent / "watching"
"""For `PYTHONPATH`."""
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SAID = "xylograph"
"""Begins every word of a prompt; the rest is another one each time."""
FAIL = "fail-as-you-read-this"


def word() -> str:
    return f"{SAID}{uuid.uuid4().hex[:8]}"


def chat(content: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 12, **fields}


ODD = {
    "unknown model": chat(word(), model=word()),
    "unknown role": {"messages": [{"role": word(), "content": word()}], "max_tokens": 12},
    "not text": chat({"no": word()}),
    "unknown option": chat(word(), headstart={word(): 1}),
    "too long": chat(" ".join(word() for _ in range(20_000))),
    "no such place": chat(word(), stream_options={"include_usage": word()}),
    "impossible": chat(word(), temperature=word(), max_tokens=-1),
}
BROKEN = {
    "not JSON": f'{{"messages": "{word()}'.encode(),
    "not UTF-8": b'{"messages": "' + word().encode() + b'\xff"}',
    "a list": f'["{word()}"]'.encode(),
}


async def ask_everything(address: str) -> list[str]:
    """Send them to the server at a URL; return what was answered, or thought, to the good ones."""
    async with httpx.AsyncClient(base_url=address, timeout=240, trust_env=False) as client:
        whole = await client.post(CHAT, json=chat(f"Say {word()}", max_tokens=24))
        assert whole.status_code == httpx.codes.OK, whole.text
        streamed = await client.post(CHAT, json=chat(f"Repeat {word()}", stream=True))
        plain = await client.post(COMPLETIONS, json={"prompt": word(), "max_tokens": 12})
        assert plain.status_code == httpx.codes.OK, plain.text
        for name, body in ODD.items():
            answer = await client.post(CHAT, json=body)
            assert not answer.is_server_error, (name, answer.text)
        for name, content in BROKEN.items():
            answer = await client.post(
                CHAT, content=content, headers={"content-type": "application/json"}
            )
            assert answer.is_client_error, (name, answer.text)
        assert (await client.get(f"/v1/streams/{word()}")).is_client_error
        assert (await client.get(f"/{word()}", params={"q": word()})).is_client_error
        failed = await client.post(CHAT, json=chat(f"{word()} {FAIL}"))
        # Of vLLM's app 400: it takes any failure to decode for the client's.
        assert failed.is_error, failed.text
        url = httpx.URL(address)
        assert url.port is not None
        async with connected((url.host, url.port)) as connection:
            connection.post(CHAT, chat(word(), stream=True, max_tokens=400))
            await connection.until(b'"content":')
            connection.hang_up()
        async with connected((url.host, url.port)) as connection:
            connection.write(f"{word()} is not HTTP\r\n\r\n".encode())
            await connection.all_until(b"\r\n\r\n")
        await _type_live(client)
        thought_and_said = await _think_live(url)
        after = await client.post(CHAT, json=chat(word()))
        assert after.status_code == httpx.codes.OK
    return [
        whole.json()["choices"][0]["message"]["content"],
        text(streamed.content),
        plain.json()["choices"][0]["text"],
        *thought_and_said,
    ]


async def _type_live(client: httpx.AsyncClient) -> None:
    """Have a live prompt, with good edits and bad ones, computed ahead and answered."""
    session = {"instructions": word(), "sampling": {"max_tokens": 12}}
    text = " ".join(word() for _ in range(50))
    begun = await client.post("/v1/live", json={"session": session, "text": text})
    assert begun.status_code == httpx.codes.CREATED, begun.text
    path = f"/v1/live/{begun.json()['id']}"
    append = {"type": "input_text.append", "text": word()}
    bad: list[Any] = [
        {"edits": [{"type": "input_text.replace", "start": 0, "end": 10_000, "text": word()}]},
        {"edits": [{"type": word()}]},
        {"edits": [append | {"text": word() * 100_000}]},
        {"session": {"sampling": {"cache_salt": [word()]}}},
        {word(): word()},
    ]
    for body in bad:
        assert (await client.patch(path, json=body)).is_client_error, body
    edited = await client.patch(path, json={"edits": [append]})
    assert edited.status_code == httpx.codes.OK, edited.text
    async with asyncio.timeout(60):
        while not (await client.get(path)).json()["computed"]["warm_tokens"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    answer = await client.post(f"{path}/commit")
    assert answer.status_code == httpx.codes.OK, answer.text
    assert (await client.delete(path)).status_code == httpx.codes.NO_CONTENT


async def _think_live(url: httpx.URL) -> list[str]:
    """Have a live prompt over a WebSocket thought about, with good events and bad ones.

    Returns:
        The thoughts about it, and the answer.
    """
    mind = {"mode": "livemind", "livemind": {"show_thoughts": True, "at_commit": "wait"}}
    asked = {"instructions": word(), "sampling": {"max_tokens": 12}, "private_cache": True}
    text = f"Dr. {word()} has {word()}. The {word()} is"
    wrong = {"type": "input_text.replace", "start": 0, "end": 10_000, "text": word()}
    bad: list[Any] = [
        json.dumps(wrong | {"event_id": word()}),
        json.dumps({"type": word(), "event_id": word()}),
        json.dumps({"type": "input_text.append", "text": word() * 100_000}),
        json.dumps({"type": "input_text.append", "text": word(), word(): word()}),
        json.dumps({"type": "session.update", "session": mind | {"livemind": {"thinker": word()}}}),
        json.dumps({"type": "session.update", "session": {"livemind": {"language": word()}}}),
        f'{{"type": "{word()}',
        b'{"type": "input_text.append", "text": "' + word().encode() + b'\xff"}',
    ]
    address = f"ws://{url.host}:{url.port}/v1/realtime"
    thoughts: list[str] = []
    async with asyncio.timeout(60), connect(address, proxy=None, max_size=None) as socket:

        async def until(kind: str) -> dict[str, Any]:
            said = ""
            async for message in socket:
                event: dict[str, Any] = json.loads(message)
                said += event.get("delta", "")
                if event["type"] == "input_text.reasoning":
                    thoughts.extend(one["text"] for one in event["thoughts"])
                if event["type"] == kind:
                    return event | {"said": said}
            raise AssertionError(f"closed before {kind}")

        for data in bad:
            await socket.send(data)
            await until("error")
        await socket.send(json.dumps({"type": "session.update", "session": asked | mind}))
        await until("session.updated")
        await socket.send(json.dumps({"type": "input_text.append", "text": text}))
        await until("input_text.reasoning")
        edit = {"type": "input_text.replace", "start": len(text) - 2, "end": len(text)}
        await socket.send(json.dumps(edit | {"text": f"was {word()}."}))
        await until("input_text.replaced")
        await socket.send(json.dumps({"type": "input_text.commit"}))
        done = await until("response.done")
        assert done["response"]["status"] == "completed", done
        await socket.send(json.dumps({"type": "session.close"}))
        await until("error")
    return [*thoughts, done["said"]]
