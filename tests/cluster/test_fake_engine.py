"""What the fake engine has beyond the contract: set speeds, injected delays, limits."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, get_args

import pytest

from headstart.cluster import fake_batch
from headstart.cluster.engine import EngineLoad, EngineRequest
from headstart.cluster.fake_engine import FakeEngine
from headstart.cluster.fake_text import tokenise
from headstart.cluster.stream import Stream, StreamTable
from headstart.configs.model_settings import DelayedStage, FakeEngineSettings, ModelSettings
from headstart.stages.mirror import StreamEnd
from headstart.stages.retention import Retention
from headstart.stages.stage_clock import Mark, Stage
from tests.support.streams import body, finished, stream_table
from tests.support.waiting import eventually, soon

pytestmark = [pytest.mark.anyio, pytest.mark.alone]

SLACK_S = 0.05
"""What a busy machine may add to a time that was set."""


@asynccontextmanager
async def fake(
    streams: StreamTable | None = None, context: int = 1 << 16, **speeds: Any
) -> AsyncIterator[FakeEngine]:
    """Start a fake engine; unthrottled, unless `speeds` says otherwise."""
    settings = FakeEngineSettings(**({"time_to_first_token_s": 0, "tokens_per_s": 0} | speeds))
    model = ModelSettings(name="fake", engine="fake", max_model_len=context, fake=settings)
    engine = FakeEngine(model, stream_table() if streams is None else streams)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def request(stream_id: str, prompt: str = "A prompt.", **fields: Any) -> EngineRequest:
    asked = {"prompt": prompt, "stream": True} | fields
    return EngineRequest(stream_id, "POST", "/v1/completions", (), json.dumps(asked).encode())


def text(stream: Stream) -> str:
    return "".join(frame.text for _, frame in stream.log.frames(0))


def end(stream: Stream) -> StreamEnd:
    assert stream.end is not None
    return stream.end


async def test_answer_is_that_of_seed_and_prompt() -> None:
    texts = []
    for seed, prompt in ((0, "A"), (0, "A"), (1, "A"), (0, "B")):
        async with fake(seed=seed) as engine:
            texts.append(text(await finished(engine.serve(request("one", prompt)))))

    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


async def test_tokens_are_words() -> None:
    async with fake() as engine:
        stream = await finished(engine.serve(request("one", max_tokens=200)))

    tokens = [token for _, frame in stream.log.frames(0) for token in frame.tokens]
    assert len(tokens) == 200
    assert tokenise(text(stream)) == tokens
    assert not text(stream).isascii()
    assert text(stream).count(" ") == 200


async def test_length_is_the_limit_or_the_setting() -> None:
    async with fake(answer_tokens=7, context=20) as engine:
        free = await finished(engine.serve(request("free")))
        limited = await finished(engine.serve(request("limited", max_tokens=9)))
        cut = await finished(engine.serve(request("cut", "word " * 15, max_tokens=9)))

    assert (end(free).output_tokens, end(free).finish_reasons) == (7, ("stop",))
    assert (end(limited).output_tokens, end(limited).finish_reasons) == (9, ("length",))
    assert (end(cut).output_tokens, end(cut).finish_reasons) == (5, ("length",))


async def test_speeds() -> None:
    async with fake(
        time_to_first_token_s=0.1, prefill_tokens_per_s=1000, tokens_per_s=200
    ) as engine:
        stream = await finished(engine.serve(request("one", "word " * 200, max_tokens=41)))

    times = stream.clock.durations()
    assert times[Stage.PREFILL] == pytest.approx(0.3, abs=SLACK_S)
    assert times[Stage.DECODE] == pytest.approx(0.2, abs=SLACK_S)


async def test_cached_prompt_is_not_computed_again() -> None:
    async with fake(prefill_tokens_per_s=1000) as engine:
        await soon(engine.warm(tokenise("word " * 320)))
        stream = await finished(engine.serve(request("one", "word " * 330, max_tokens=1)))

    assert end(stream).cached_tokens == 320
    assert stream.clock.durations()[Stage.PREFILL] < 0.01 + SLACK_S


async def test_tokens_of_a_step_are_one_frame() -> None:
    async with fake(tokens_per_step=4) as engine:
        stream = await finished(engine.serve(request("one", max_tokens=10)))

    sizes = [len(frame.tokens) for _, frame in stream.log.frames(0)]
    assert sizes == [4, 4, 2, 0]


class _Turns:
    """Counts the turns of the event loop, and notes in which of them a stream grew."""

    def __init__(self) -> None:
        self._turn = 0
        self._count()

    def _count(self) -> None:
        self._turn += 1
        asyncio.get_running_loop().call_soon(self._count)

    def follow(self, stream: Stream) -> list[int]:
        grew_at: list[int] = []
        turns = self

        class Listener:
            def appended(self) -> None:
                grew_at.append(turns._turn)

            def marked(self, mark: Mark, at: float) -> None: ...

            def ended(self, end: StreamEnd) -> None: ...

        stream.listen(Listener())
        return grew_at


async def test_step_serves_every_stream_in_one_turn() -> None:
    async with fake(tokens_per_s=100, time_to_first_token_s=0.02) as engine:
        turns = _Turns()
        streams = [engine.serve(request(f"{number}", max_tokens=10)) for number in range(3)]
        grown = [turns.follow(stream) for stream in streams]
        for stream in streams:
            await finished(stream)

    first, *others = ([*dict.fromkeys(turns)] for turns in grown)
    assert len(first) == 10
    assert others == [first, first]


@pytest.mark.parametrize("stage", get_args(DelayedStage))
async def test_delay_shows_in_its_stage_alone(stage: DelayedStage) -> None:
    async with fake(stage_delays_s={stage: 0.5}) as engine:
        began = time.monotonic()
        streams = [engine.serve(request(f"{number}", max_tokens=4)) for number in range(8)]
        for stream in streams:
            await finished(stream)
        took_s = time.monotonic() - began

    for stream in streams:
        times = stream.clock.durations()
        assert times.pop(Stage(stage)) == pytest.approx(0.5, rel=0.1)
        assert sum(times.values()) < SLACK_S
    assert took_s < 0.6, "one stream's delay held up another"


async def test_line_forms_behind_a_full_batch() -> None:
    num_more = 20
    async with fake(tokens_per_s=1000, time_to_first_token_s=0.01) as engine:
        streams = [
            engine.serve(request(f"{number}", max_tokens=20))
            for number in range(fake_batch.MAX_RUNNING + num_more)
        ]
        await eventually(lambda: engine.load().running == fake_batch.MAX_RUNNING)
        assert engine.load().waiting == num_more

        for stream in streams:
            await finished(stream)
        assert engine.load() == EngineLoad(running=0, waiting=0)
        assert streams[-1].clock.durations()[Stage.QUEUE] > 0.02


async def test_aborted_request_leaves_the_line() -> None:
    async with fake(tokens_per_s=1000, time_to_first_token_s=10) as engine:
        for number in range(fake_batch.MAX_RUNNING + 2):
            engine.serve(request(f"{number}"))
        await eventually(lambda: engine.load().waiting == 2)

        await engine.abort(f"{fake_batch.MAX_RUNNING}")
        await eventually(lambda: engine.load().waiting == 1)
        await engine.abort("0")
        await eventually(lambda: engine.load().waiting == 0)

        assert engine.load().running == fake_batch.MAX_RUNNING


async def test_line_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_batch, "MAX_RUNNING", 1)
    monkeypatch.setattr(fake_batch, "MAX_WAITING", 2)
    async with fake(time_to_first_token_s=10) as engine:
        engine.serve(request("running"))
        await eventually(lambda: engine.load().running == 1)
        streams = [engine.serve(request(f"{number}")) for number in range(3)]

        await soon(streams[-1].finished())

        failure = end(streams[-1]).failure
        assert failure is not None
        assert failure.to_error().is_retryable
        assert engine.load().waiting == 2


async def test_answer_that_outgrows_its_log_fails_alone() -> None:
    streams = StreamTable(Retention(300, 1 << 20), 2000, time.monotonic)
    async with fake(streams) as engine:
        long = engine.serve(request("long", max_tokens=1000))
        short = engine.serve(request("short", max_tokens=10))

        await finished(short)
        await soon(long.finished())

    failure = end(long).failure
    assert failure is not None
    assert failure.error == "PayloadTooLarge"
    assert "outgrew" in failure.message


async def test_refusal_that_outgrows_its_log_is_still_the_clients_fault() -> None:
    streams = StreamTable(Retention(300, 1 << 20), 200, time.monotonic)
    async with fake(streams) as engine:
        stream = engine.serve(request("one", model="x" * 1000))
        await soon(stream.finished())

    failure = end(stream).failure
    assert failure is not None
    assert failure.error == "PayloadTooLarge"


async def test_unknown_route() -> None:
    async with fake() as engine:
        stream = await finished(engine.serve(EngineRequest("one", "GET", "/v2", ())))

    assert stream.log.header is not None
    assert stream.log.header.status == 404
    assert body(stream)["error"]["message"] == "Not Found"


async def test_unthrottled_throughput() -> None:
    """Measured near 280,000 tokens a second on one core of a laptop."""
    num_streams, num_tokens = 64, 500
    async with fake() as engine:
        began = time.monotonic()
        streams = [
            engine.serve(request(f"{number}", max_tokens=num_tokens))
            for number in range(num_streams)
        ]
        for stream in streams:
            await finished(stream)
        took_s = time.monotonic() - began

    assert num_streams * num_tokens / took_s > 30_000
