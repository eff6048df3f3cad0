"""The fake engine's answers have the form of vLLM's."""

import json

import pytest

from headstart.cluster.answer import api_of
from headstart.cluster.engine import EngineRequest
from headstart.cluster.fake_engine import FakeEngine
from headstart.cluster.stream import Stream
from headstart.configs.model_settings import FakeEngineSettings, ModelSettings
from headstart.stages.sse import parser_of, split_events
from tests.golden.shapes import chunk_shapes, shape
from tests.golden.vllm_answers import BODIES, FOLDER, MODEL, REFUSED, STREAMS, Ask
from tests.support.streams import body, events, finished, stream_table

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


ALIKE = (
    *("responses", "responses_one_token"),
    *("chat", "chat_usage", "chat_one_token", "completions", "completions_usage"),
)
"""The streams that the fake engine can answer."""


async def answered(ask: Ask) -> Stream:
    model = ModelSettings(
        name=MODEL.name,
        engine="fake",
        max_model_len=MODEL.max_model_len,
        fake=FakeEngineSettings(time_to_first_token_s=0, tokens_per_s=0),
    )
    engine = FakeEngine(model, stream_table())
    await engine.start()
    try:
        request = EngineRequest("golden", "POST", ask.path, (), ask.body)
        return await finished(engine.serve(request))
    finally:
        await engine.close()


@pytest.mark.parametrize("name", ALIKE)
async def test_streams(name: str) -> None:
    stream = await answered(STREAMS[name])

    assert chunk_shapes(events(stream)) == chunk_shapes(
        (FOLDER / "sse" / f"{name}.sse").read_bytes()
    )


@pytest.mark.parametrize("name", ALIKE)
async def test_frames_are_those_of_a_parsed_stream(name: str) -> None:
    """Whatever reads the log of a fake answer might as well read one of vLLM's."""
    stream = await answered(STREAMS[name])
    frames = [frame for _, frame in stream.log.frames(0)]
    unframed = [frame for frame in frames if frame.tokens]

    def take(choice: int) -> tuple[int, ...]:
        return unframed.pop(0).tokens if unframed else ()

    api = api_of(STREAMS[name].path)
    parser = parser_of(api, 200, "text/event-stream; charset=utf-8")
    payloads, _ = split_events(events(stream), has_names=api == "responses")
    parsed = [
        parser.parse(payload, take, frame.at_us)
        for payload, frame in zip(payloads, frames, strict=True)
    ]

    assert parsed == frames
    assert parser.header == stream.log.header


@pytest.mark.parametrize("name", BODIES)
async def test_bodies(name: str) -> None:
    golden = json.loads((FOLDER / "bodies" / f"{name}.json").read_text())

    assert shape(body(await answered(BODIES[name]))) == shape(golden)


@pytest.mark.parametrize("name", REFUSED)
async def test_refusals_are_the_same(name: str) -> None:
    stream = await answered(REFUSED[name])

    golden = json.loads((FOLDER / "errors.json").read_text())[name]
    header = stream.log.header
    assert header is not None
    assert header.status == golden["code"]
    assert body(stream) == {"error": golden}
