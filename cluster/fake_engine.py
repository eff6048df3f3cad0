"""The fake engine: deterministic answers at set speeds, and otherwise like vLLM.

For tests and benches. It behaves as an engine that batches does: one step loop serves every
running request at once, requests wait in line, prompts have a prefix cache, marks are set when
their moment comes. See the `fake_` modules beside this one for each of these.
"""

import asyncio
import time
from itertools import repeat
from typing import NamedTuple

import structlog

from headstart.cluster import fake_text
from headstart.cluster.answer import api_of
from headstart.cluster.engine import Engine, EngineInfo, EngineLoad, EngineRequest, Warmth
from headstart.cluster.fake_answer import (
    AnswerForm,
    StreamedAnswer,
    WholeAnswer,
    models_body,
    write_body,
)
from headstart.cluster.fake_batch import Batch, Row
from headstart.cluster.fake_cache import PrefixCache
from headstart.cluster.fake_request import FakeRequest, error_body, read
from headstart.cluster.fake_responses import StreamedResponse, WholeResponse
from headstart.cluster.stream import Stream, StreamTable
from headstart.cluster.tasks import Tasks
from headstart.cluster.warm_lane import WarmLane
from headstart.configs.model_settings import DelayedStage, ModelSettings
from headstart.stages.errors import BadRequest, ClientError, HeadstartError, NotFound
from headstart.stages.failure import Failure
from headstart.stages.mirror import StreamEnd
from headstart.stages.stage_clock import Mark

__all__ = ["FakeEngine"]

DEFAULT_CONTEXT = 32_768
"""Longest prompt plus answer, in tokens, where the settings name none."""

_log = structlog.get_logger(__name__)


class _NoRoute(NotFound):
    kind = "Not Found"


class FakeEngine(Engine):
    """An engine without a model.

    Args:
        model: Its name, limits and, in `fake`, speeds.
        streams: Where answers are kept.
    """

    def __init__(self, model: ModelSettings, streams: StreamTable) -> None:
        assert model.fake is not None
        self._settings = model.fake
        self._streams = streams
        self._info = EngineInfo(
            model=model.name,
            max_model_len=model.max_model_len or DEFAULT_CONTEXT,
            block_size=model.block_size,
        )
        self._batch = Batch(model.fake, PrefixCache(model.block_size))
        self._lane = WarmLane(model.max_thoughts)
        self._tasks = Tasks()
        self._answers: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> EngineInfo:
        self._tasks.start(self._batch.run(), name="fake steps")
        return self._info

    async def close(self) -> None:
        await self._tasks.close()

    def load(self) -> EngineLoad:
        return self._batch.load

    async def render(self, request: EngineRequest) -> list[int]:
        try:
            return self._read(request).prompts[0]
        except ClientError as error:
            raise BadRequest.of_engine(error.message, error.param) from error

    async def warm(
        self, tokens: list[int], *, cache_salt: str | None = None, model: str | None = None
    ) -> Warmth:
        if model not in (None, self._info.model):
            raise BadRequest(f"no model {model}")
        if not 0 < len(tokens) < self._info.max_model_len:
            raise BadRequest("no tokens, or more than the context holds", param="input_tokens")
        async with self._lane.turn():
            began = time.monotonic()
            warming = _Warming()
            row = Row(warming, 0, tokens, repeat((0, "")), 1, cache_salt)
            self._batch.add(row)
            try:
                await warming.is_there.wait()
            finally:
                self._batch.remove(row)
            return Warmth(row.num_cached, time.monotonic() - began)

    def serve(self, request: EngineRequest, *, logged: bytes = b"") -> Stream:
        stream = self._streams.create(request.stream_id, logged)
        answer = _Answer(stream)
        answer.mark(Mark.RECEIVED)
        if request.is_background:
            work = self._serve_behind(request, answer)
        else:
            self._lane.give_way_to(stream)
            work = self._serve(request, answer)
        task = self._tasks.start(work, name=f"answer {stream.id}")
        self._answers[stream.id] = task
        # Not in the task: one that is cancelled before its first turn runs nothing at all.
        task.add_done_callback(lambda _: self._left(answer))
        return stream

    def attach(self, stream_id: str, after: int) -> Stream:
        stream = self._streams.get(stream_id)
        stream.log.check_cursor(after)
        return stream

    async def abort(self, stream_id: str) -> None:
        if (task := self._answers.get(stream_id)) is not None:
            task.cancel()

    def _left(self, answer: "_Answer") -> None:
        del self._answers[answer.stream.id]
        answer.finish(is_aborted=True)

    async def _serve_behind(self, request: EngineRequest, answer: "_Answer") -> None:
        async with self._lane.row():
            await self._serve(request, answer)

    async def _serve(self, request: EngineRequest, answer: "_Answer") -> None:
        stream = answer.stream
        failure = None
        try:
            await self._write(request, answer)
        except HeadstartError as error:
            failure = Failure.of(error)
        except Exception as error:  # the root of this task: whatever was raised becomes an end
            _log.error("answer_failed", stream_id=stream.id, exc_info=error)
            failure = Failure.of(error)
        answer.finish(failure=failure)

    async def _write(self, request: EngineRequest, answer: "_Answer") -> None:
        stream = answer.stream
        try:
            if request.path == "/v1/models":
                write_body(stream, 200, models_body(self._info))
            elif api := api_of(request.path):
                await self._generate(self._read(request), api, answer)
            else:
                raise _NoRoute("Not Found")
        except (BadRequest, NotFound) as error:  # what vLLM's app would answer by itself
            write_body(stream, error.http_status, error_body(error))

    def _read(self, request: EngineRequest) -> FakeRequest:
        content_type = dict(request.headers).get("content-type", "")
        return read(request.path, request.body, self._info, content_type)

    async def _generate(self, asked: FakeRequest, api: str, answer: "_Answer") -> None:
        form = self._form(asked, api, answer.stream)
        await self._pause("tokenise")
        answer.mark(Mark.TOKENISED)
        await self._pause("queue")
        answer.begin(form, self._rows(asked, answer))
        try:
            for row in answer.rows:
                if answer.stream.replay is not None:
                    row.repeat(answer.stream.replay.steps(row.choice), time.monotonic())
                if not row.is_complete:
                    self._batch.add(row)
            for _ in answer.rows:
                last = await answer.next_last()
                await self._pause("detokenise")
                answer.mark(Mark.DETOKENISED)
                await self._pause("frame")
                answer.write_last(last, self._reason(asked, last.row))
        finally:
            for row in answer.rows:
                self._batch.remove(row)
        form.complete(answer.end())

    def _form(self, asked: FakeRequest, api: str, stream: Stream) -> AnswerForm:
        if api == "responses":
            kind = StreamedResponse if asked.is_streamed else WholeResponse
            return kind(stream, self._info.model, asked.limit)
        if asked.is_streamed:
            has_ids, has_usage = asked.has_token_ids, asked.has_usage_chunk
            model = self._info.model
            return StreamedAnswer(stream, api, model, has_usage=has_usage, has_token_ids=has_ids)
        return WholeAnswer(stream, api, self._info.model)

    def _rows(self, asked: FakeRequest, answer: "_Answer") -> list[Row]:
        return [
            Row(
                answer,
                choice,
                prompt,
                fake_text.answer(self._settings.seed, prompt),
                min(
                    asked.limit or self._settings.answer_tokens,
                    self._info.max_model_len - len(prompt),
                ),
                asked.cache_salt,
            )
            for choice, prompt in enumerate(asked.prompts)
        ]

    def _reason(self, asked: FakeRequest, row: Row) -> str:
        is_whole = asked.limit is None and row.limit == self._settings.answer_tokens
        return "stop" if is_whole else "length"

    async def _pause(self, stage: DelayedStage) -> None:
        if delay_s := self._settings.stage_delays_s.get(stage):
            await asyncio.sleep(delay_s)


class _Last(NamedTuple):
    """What the last step gave to a row."""

    row: Row
    tokens: tuple[int, ...]
    text: str


class _Answer:
    """One request in the making: its log, its rows, and what they have got."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.rows: list[Row] = []
        self._form: AnswerForm | None = None
        self._reasons: dict[int, str] = {}
        self._latest: float | None = None
        """When a token was last sampled."""
        self._lasts: asyncio.Queue[_Last | HeadstartError] = asyncio.Queue()

    def begin(self, form: AnswerForm, rows: list[Row]) -> None:
        """Take what is known once the request is understood."""
        self._form = form
        self.rows = rows
        self.stream.tokens = sum(len(row.prompt) for row in rows), 0

    def mark(self, mark: Mark) -> None:
        """Note that a moment of the request is now."""
        self.stream.mark(mark, time.monotonic())

    def scheduled(self, row: Row, at: float) -> None:
        if self.stream.clock.get(Mark.SCHEDULED) is None:
            self.stream.mark(Mark.SCHEDULED, at)

    def sampled(self, row: Row, tokens: tuple[int, ...], text: str, at: float) -> None:
        self._latest = at
        num_prompt, num_sampled = self.stream.tokens
        self.stream.tokens = num_prompt, num_sampled + len(tokens)
        if self.stream.clock.get(Mark.FIRST_TOKEN) is None:
            self.stream.mark(Mark.FIRST_TOKEN, at)
        if row.is_complete:
            self.stream.mark(Mark.LAST_TOKEN, at)
            self._lasts.put_nowait(_Last(row, tokens, text))
            return
        assert self._form is not None
        try:
            self._form.delta(row.choice, tokens, text, at)
        except HeadstartError as error:  # the log is full: not the other rows' business
            self._lasts.put_nowait(error)

    async def next_last(self) -> _Last:
        """Wait for the next row to end."""
        last = await self._lasts.get()
        if isinstance(last, HeadstartError):
            raise last
        return last

    def write_last(self, last: _Last, reason: str) -> None:
        """Write a row's last delta."""
        assert self._form is not None
        choice = last.row.choice
        self._reasons[choice] = reason
        self._form.last_delta(choice, last.tokens, last.text, reason, time.monotonic())

    def end(self, failure: Failure | None = None, *, is_aborted: bool = False) -> StreamEnd:
        """Sum up the request."""
        return StreamEnd(
            prompt_tokens=sum(len(row.prompt) for row in self.rows),
            cached_tokens=sum(row.num_cached for row in self.rows),
            output_tokens=sum(row.num_sampled for row in self.rows),
            finish_reasons=tuple(reason for _, reason in sorted(self._reasons.items())),
            failure=failure,
            is_aborted=is_aborted,
        )

    def finish(self, failure: Failure | None = None, *, is_aborted: bool = False) -> None:
        """Close the log; only the first call counts."""
        if self.stream.end is None:
            self._mark_last()
            self.stream.finish(self.end(failure, is_aborted=is_aborted))

    def _mark_last(self) -> None:
        if self._latest is None or self.stream.clock.get(Mark.DETOKENISED) is not None:
            self.mark(Mark.FRAMED)
            return
        for mark in (Mark.LAST_TOKEN, Mark.DETOKENISED, Mark.FRAMED):  # it was cut there
            self.stream.mark(mark, self._latest)


class _Warming:
    """Waits for a prompt to be computed."""

    def __init__(self) -> None:
        self.is_there = asyncio.Event()

    def scheduled(self, row: Row, at: float) -> None:
        pass

    def sampled(self, row: Row, tokens: tuple[int, ...], text: str, at: float) -> None:
        self.is_there.set()
