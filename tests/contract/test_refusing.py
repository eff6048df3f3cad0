"""What vLLM's app stumbles over is refused as its own refusals are; no engine is needed for it."""

import json
import warnings
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest

from headstart.configs.model_settings import ModelSettings
from headstart.stages.errors import BadRequest
from headstart.stages.speculation_counts import Speculated
from tests.contract.asking import CHAT
from tests.support.streams import stream_table

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _quietly(vllm_model: ModelSettings) -> Iterator[None]:
    """Import vLLM in the environment that an engine would, whatever its imports warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def asked() -> list[bool]:
    """Whether the request has got as far as the engine."""
    return [False]


@pytest.fixture
async def client(asked: list[bool]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app with vLLM's handlers and one of its routes."""
    from fastapi import FastAPI
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.serve.exception_handling.register import init_exception_handler

    from headstart.cluster import adapter

    async def chat(request: ChatCompletionRequest) -> None:
        raise KeyError(request.model)

    app = FastAPI()
    app.state.args = SimpleNamespace(log_error_stack=False)
    init_exception_handler(app)
    app.post(CHAT)(chat)
    app.middleware_stack = app.build_middleware_stack()  # as vLLM leaves it
    adapter.answer_errors_alike(app, lambda: asked[0])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://vllm") as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (CHAT, b'{"messages": [], "structured_outputs": 5}', 400),
        (CHAT, b'{"messages": [], "structured_outputs": ["regex"]}', 400),
        (CHAT, b'{"messages": [], "model": "\xff"}', 400),
        (CHAT, b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (CHAT, b'{"messages": []}', 400),
        ("/v1/embeddings", b"{}", 404),
    ],
)
async def test_every_refusal_has_openai_s_shape(
    client: httpx.AsyncClient, path: str, body: bytes, status: int
) -> None:
    headers = {"content-type": "application/json"}

    answer = await client.post(path, content=body, headers=headers)

    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (answer.status_code, error["code"]) == (status, status)


async def test_what_fails_in_the_engine_is_not_the_client_s_fault(
    client: httpx.AsyncClient, asked: list[bool]
) -> None:
    asked[0] = True

    answer = await client.post(CHAT, json={"messages": []})

    assert answer.status_code == 500


async def give(*outputs: Any) -> AsyncIterator[Any]:
    for output in outputs:
        if isinstance(output, Exception):
            raise output
        yield output


def said(tokens: tuple[int, ...], finish_reason: str | None) -> Any:
    from vllm.outputs import CompletionOutput, RequestOutput

    choice = CompletionOutput(0, "", tokens, None, None, finish_reason=finish_reason)
    return RequestOutput("r", None, [1, 2], None, [choice], finished=finish_reason is not None)


async def watched(
    form: Any, *outputs: Any, is_asked: bool = True, body: dict[str, Any] | None = None
) -> Any:
    """The tap of a request, after the engine has given `outputs`."""
    from headstart.cluster.vllm_tap import Tap

    tap = Tap(stream_table().create("a stream"), json.dumps(body or {}).encode())
    tap.is_asked = is_asked
    first: Any = tap.begin(SimpleNamespace(n=1, structured_outputs=form), "r")
    llm: Any = None  # it is asked nothing
    async for _ in tap.watch(llm, give(*outputs), first, "r"):  # type: ignore[arg-type]
        pass
    return tap


class Counting:
    """A front end whose worker knows what it drafted."""

    def __init__(self, worker: str) -> None:
        self.asked: list[Any] = []
        self.vllm_config = SimpleNamespace(parallel_config=SimpleNamespace(worker_cls=worker))

    async def collective_rpc(self, method: str, args: tuple[Any, ...]) -> list[bytes]:
        self.asked.append((method, *args))
        return [b"", msgspec.msgpack.encode(Speculated(5, 3, 2))]


@pytest.mark.parametrize("is_ours", [True, False])
async def test_worker_is_asked_what_vllm_does_not_tell_of_a_stop_string(is_ours: bool) -> None:
    from vllm.outputs import CompletionOutput, RequestOutput

    from headstart.cluster import launch_adapter
    from headstart.cluster.vllm_tap import Tap

    tap = Tap(stream_table().create("a stream"), b"{}")
    tap.submitted("r", ("0-core", "1-core", "2-core"))
    first = tap.begin(SimpleNamespace(n=3, structured_outputs=None), "r")
    told = SimpleNamespace(num_draft_tokens=4, histogram=[1, 0, 1])
    ends: tuple[Any, ...] = (("stop", "lazy", None), ("stop", 28, told), ("length", None, None))
    outputs = [
        RequestOutput(
            "r",
            None,
            [1],
            None,
            [CompletionOutput(index, "", (1,), None, None, finish_reason=why, stop_reason=by)],
            finished=index == 2,
        )
        for index, (why, by, _) in enumerate(ends)
    ]
    outputs[1].outputs[0].spec_decode_metrics = told  # type: ignore[assignment]
    llm: Any = Counting(launch_adapter.WORKER if is_ours else launch_adapter.DRAFT_MODEL_WORKER)
    async for _ in tap.watch(llm, give(*outputs), first, "r"):  # type: ignore[arg-type]
        assert not llm.asked  # no text waits for it

    assert llm.asked == ([("drafted_for", ["0-core"])] if is_ours else [])
    # A sum of the others alone would be taken for all of it.
    assert tap.speculated == (Speculated(9, 5, 4) if is_ours else None)


@pytest.mark.parametrize("field", ["structured_outputs", "response_format", "text", "tools"])
@pytest.mark.parametrize("tokens", [(), (7,)])
async def test_form_that_the_engine_gives_up_before_it_says_a_word(
    field: str, tokens: tuple[int, ...]
) -> None:
    tap = await watched(object(), said(tokens, "error"), body={"model": "smol", field: {}})

    assert isinstance(tap.refusal, BadRequest)
    assert tap.refusal.param == field


@pytest.mark.parametrize(
    ("form", "outputs"),
    [
        (None, [((), "error")]),
        (object(), [((7,), None), ((8,), "error")]),
        (object(), [((7,), "stop")]),
        (object(), [((), "abort")]),
    ],
)
async def test_no_other_end_is_the_client_s_fault(form: Any, outputs: list[Any]) -> None:
    tap = await watched(form, *(said(*output) for output in outputs), body={"text": {}})

    assert tap.refusal is None


async def test_prompt_that_vllm_stumbles_over_is_refused_in_its_own_way() -> None:
    with pytest.raises(ValueError, match="cannot make sense of this request"):
        await watched(None, RecursionError(), is_asked=False)
    with pytest.raises(RecursionError):
        await watched(None, RecursionError(), is_asked=True)
