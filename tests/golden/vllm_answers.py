"""The requests whose answers by vLLM 0.32 are kept in this folder, and how to record them again.

After an upgrade of vLLM, run this from the repository's root and read what `git diff` shows:

    .venv/bin/python -c 'from tests.golden.vllm_answers import main; main()'
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.cluster.asgi import call
from headstart.configs.fields import default_cache_dir
from headstart.configs.model_settings import ModelSettings

if TYPE_CHECKING:
    from headstart.cluster.vllm_engine import VllmEngine

FOLDER = Path(__file__).parent

MODEL = ModelSettings(
    name="smol",
    source="builtin:smollm2-135m-instruct",
    max_model_len=2048,
    dtype="float32",
    engine_args={
        "enforce_eager": True,
        "enable_auto_tool_choice": True,
        "tool_call_parser": "hermes",
    },
)

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RESPONSES = "/v1/responses"

UNICODE = "naïve 日本語 🎉👩‍👩‍👧 \u2028\u2029 ﷽"
CONTROL = 'a"b\\c/\u0000\u0001\u001f\u007f\t\r\n<|x|>'

QUESTION = [{"role": "user", "content": "Name three colours."}]
PROMPTS = ["Hello, my", "The sky"]
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


FLAT_TOOL = {"type": "function", **TOOL["function"]}


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    path: str
    body: bytes
    fails_after: int | None = None
    """Steps after which the engine is made to raise."""


def _ask(path: str, fails_after: int | None = None, /, **fields: Any) -> Ask:
    common = {"model": MODEL.name, "max_tokens": 8, "temperature": 0}
    return Ask(path, json.dumps(common | fields).encode(), fails_after)


def _chat(fails_after: int | None = None, /, **fields: Any) -> Ask:
    return _ask(CHAT, fails_after, messages=QUESTION, stream=True, **fields)


def _completion(fails_after: int | None = None, /, **fields: Any) -> Ask:
    return _ask(COMPLETIONS, fails_after, **({"prompt": PROMPTS, "stream": True} | fields))


def _response(**fields: Any) -> Ask:
    common = {"model": MODEL.name, "max_output_tokens": 8, "temperature": 0, "stream": True}
    asked = common | {"input": "Name three colours."} | fields
    return Ask(RESPONSES, json.dumps(asked).encode())


def _exactly(text: str) -> dict[str, Any]:
    return {"structured_outputs": {"choice": [text]}, "max_tokens": 80}


def _one_of(text: str) -> dict[str, Any]:
    schema = {"type": "string", "enum": [text]}
    return {"format": {"type": "json_schema", "name": "said", "schema": schema}}


_USAGE = {"include_usage": True}
_SAMPLED = {"temperature": 0.8, "seed": 3, "n": 2}

STREAMS = {
    "chat": _chat(),
    "chat_usage": _chat(stream_options=_USAGE),
    "chat_usage_in_every_chunk": _chat(
        stream_options=_USAGE | {"continuous_usage_stats": True}, max_tokens=3
    ),
    "chat_one_token": _chat(max_tokens=1),
    "chat_stop": _chat(**_exactly("red")),
    "chat_unicode": _chat(**_exactly(UNICODE)),
    "chat_control": _chat(**_exactly(CONTROL)),
    "chat_logprobs_of_two": _chat(logprobs=True, top_logprobs=2, **_SAMPLED),
    "chat_tool": _chat(tools=[TOOL], tool_choice="required", max_tokens=48),
    "chat_error": _chat(3),
    "completions": _completion(),
    "completions_usage": _completion(stream_options=_USAGE),
    "completion_stop": _completion(prompt="A colour:", **_exactly("red")),
    "completion_unicode": _completion(prompt="Text:", **_exactly(UNICODE)),
    "completion_control": _completion(prompt="Text:", **_exactly(CONTROL)),
    "completion_logprobs_of_two": _completion(prompt="Hello, my", logprobs=2, **_SAMPLED),
    "completion_error": _completion(3, prompt="Hello, my"),
    "responses": _response(),
    "responses_one_token": _response(max_output_tokens=1),
    "responses_unicode": _response(text=_one_of(UNICODE), max_output_tokens=80),
    "responses_control": _response(text=_one_of(CONTROL), max_output_tokens=80),
    "responses_logprobs": _response(include=["message.output_text.logprobs"], top_logprobs=2),
    "responses_tool": _response(tools=[FLAT_TOOL], tool_choice="required", max_output_tokens=48),
}
"""By the name of the file in `sse/`."""

BODIES = {
    "chat": _ask(CHAT, messages=QUESTION),
    "completions": _ask(COMPLETIONS, prompt=PROMPTS),
    "responses": _response(stream=False),
    "models": Ask("/v1/models", b""),
}
"""By the name of the file in `bodies/`."""

REFUSED = {
    "malformed": Ask(CHAT, b"{bad"),
    "empty": Ask(CHAT, b""),
    "a list": Ask(CHAT, b"[]"),
    "another model": _ask(CHAT, messages=QUESTION, model="another"),
    "a number for the model": _ask(CHAT, messages=QUESTION, model=3),
    "no messages": _ask(CHAT),
    "text for the messages": _ask(CHAT, messages="hello"),
    "no message at all": _ask(CHAT, messages=[]),
    "no tokens": _ask(CHAT, messages=QUESTION, max_tokens=0),
    "no completion tokens": _ask(CHAT, messages=QUESTION, max_completion_tokens=0),
    "fewer than no tokens": _ask(COMPLETIONS, prompt="a", max_tokens=-1),
    "text for the tokens": _ask(CHAT, messages=QUESTION, max_tokens="many"),
    "half a token": _ask(CHAT, messages=QUESTION, max_tokens=2.5),
    "more tokens than fit": _ask(CHAT, messages=QUESTION, max_tokens=5000),
    "no choice": _ask(CHAT, messages=QUESTION, n=0),
    "text for n": _ask(CHAT, messages=QUESTION, n="two"),
    "text for stream": _ask(CHAT, messages=QUESTION, stream="maybe"),
    "options without stream": _ask(CHAT, messages=QUESTION, stream_options=_USAGE),
    "a number for the options": _ask(CHAT, messages=QUESTION, stream=True, stream_options=3),
    "no salt": _ask(CHAT, messages=QUESTION, cache_salt=""),
    "no prompt": _ask(COMPLETIONS),
    "null for the prompt": _ask(COMPLETIONS, prompt=None),
    "an empty prompt": _ask(COMPLETIONS, prompt=""),
    "a list of no prompts": _ask(COMPLETIONS, prompt=[]),
    "an empty prompt in a list": _ask(COMPLETIONS, prompt=["a", ""]),
    "an object for the prompt": _ask(COMPLETIONS, prompt={"text": "a"}),
}
"""By the name in `errors.json`."""


async def answer(engine: "VllmEngine", ask: Ask) -> tuple[int, bytes]:
    """Have vLLM's app answer one request; return its status and its body."""
    status, parts = 0, []

    def collect(message: Any) -> None:
        nonlocal status
        status = int(message.get("status", status))
        parts.append(message.get("body", b""))

    with _failing(engine, ask.fails_after):
        await call(
            engine._app,
            method="POST" if ask.body or ask.path == CHAT else "GET",
            path=ask.path,
            headers=(("content-type", "application/json"),),
            body=ask.body,
            send=collect,
            gone=asyncio.Event(),
        )
    return status, b"".join(parts)


@contextmanager
def _failing(engine: "VllmEngine", after: int | None) -> Iterator[None]:
    """Have the engine raise in the middle of an answer."""
    llm: Any = engine._llm
    if after is None:
        yield
        return
    generate = llm.generate

    async def generate_some(*args: Any, **options: Any) -> AsyncIterator[Any]:
        num_steps = 0
        async for output in generate(*args, **options):
            yield output
            num_steps += 1
            if num_steps == after:
                raise RuntimeError("the engine broke")

    llm.generate = generate_some
    try:
        yield
    finally:
        del llm.generate


async def _record() -> None:
    from headstart.cluster.model_source import resolve
    from headstart.cluster.stream import StreamTable
    from headstart.cluster.vllm_engine import VllmEngine
    from headstart.stages.retention import Retention

    path = resolve(MODEL.source, default_cache_dir())
    streams = StreamTable(Retention(0, 0), 1 << 20, time.monotonic)
    engine = VllmEngine(MODEL, str(path), streams)
    try:
        await engine.start()
        for name, ask in STREAMS.items():
            _, body = await answer(engine, ask)
            (FOLDER / "sse" / f"{name}.sse").write_bytes(body)
        for name, ask in BODIES.items():
            _, body = await answer(engine, ask)
            tree = json.loads(body.replace(str(path).encode(), MODEL.source.encode()))
            (FOLDER / "bodies" / f"{name}.json").write_text(_pretty(tree))
        errors = {}
        for name, ask in REFUSED.items():
            _, body = await answer(engine, ask)
            errors[name] = json.loads(body)["error"]
        (FOLDER / "errors.json").write_text(_pretty(errors))
    finally:
        await engine.close()


def _pretty(tree: Any) -> str:
    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Record every answer."""
    from headstart.cluster import launch_adapter

    os.environ.update(launch_adapter.engine_environment(MODEL, cores=None))
    asyncio.run(_record())
