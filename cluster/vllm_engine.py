"""vLLM in this process: its own app, called in process and tapped."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import structlog

from headstart.cluster import adapter, launch_adapter
from headstart.cluster.answer import AnswerWriter, api_of
from headstart.cluster.asgi import Message, call
from headstart.cluster.engine import Engine, EngineInfo, EngineLoad, EngineRequest, Warmth
from headstart.cluster.model_card import decided
from headstart.cluster.stream import Stream, StreamTable
from headstart.cluster.tasks import Tasks
from headstart.cluster.vllm_tap import Tap, TappedLLM, current_tap, is_asked
from headstart.cluster.warm_lane import WarmLane
from headstart.configs.model_settings import ModelSettings
from headstart.stages.errors import (
    BadRequest,
    EngineFailed,
    EngineLost,
    HeadstartError,
    NotContinued,
    PayloadTooLarge,
)
from headstart.stages.failure import Failure
from headstart.stages.mirror import StreamEnd
from headstart.stages.speculation_counts import SpeculationCounts
from headstart.stages.stage_clock import Mark

__all__ = ["VllmEngine"]

_COUNTS_EVERY_S = 1.0
"""How often the worker is asked what speculation has done; it answers between two steps."""

_log = structlog.get_logger(__name__)


class _Reason(msgspec.Struct):
    message: str
    param: str | None = None


class _Refusal(msgspec.Struct):
    error: _Reason


class VllmEngine(Engine):
    """One `AsyncLLM` and vLLM's OpenAI app around it.

    Args:
        model: What to serve.
        model_path: The resolved weights: a local folder.
        streams: Where answers are kept.
        stat_loggers: Further vLLM stat loggers, such as the one that exports through Ray.
    """

    def __init__(
        self,
        model: ModelSettings,
        model_path: str,
        streams: StreamTable,
        stat_loggers: tuple[Callable[..., Any], ...] = (),
    ) -> None:
        self._model = model
        self._model_path = model_path
        self._streams = streams
        self._stat_loggers = stat_loggers
        self._load = adapter.LoadProbe(model.pool)
        self._gone: dict[str, asyncio.Event] = {}
        self._held: dict[str, asyncio.Task[None]] = {}
        """Background answers that the app has not been given yet."""
        self._lane = WarmLane(model.max_thoughts)
        self._tasks = Tasks()
        self._resources = AsyncExitStack()
        self._app: Any = None
        self._llm: TappedLLM | None = None
        self._num_warm_calls = 0
        self._speculation: SpeculationCounts | None = None
        self._has_answered = False
        """Whether an answer has ended, however short, since the worker was last asked."""

    async def start(self) -> EngineInfo:
        args = launch_adapter.engine_arguments(self._model, self._model_path)
        loggers = [self._load.factory, *self._stat_loggers]
        self._llm = launch_adapter.build_llm(TappedLLM, args, loggers)
        self._resources.callback(self._llm.shutdown)
        self._app = await adapter.build_app(self._llm, args)
        adapter.answer_errors_alike(self._app, is_asked)
        await self._resources.enter_async_context(self._app.router.lifespan_context(self._app))
        if self._model.speculation is not None and self._model.drafter is None:
            self._speculation = SpeculationCounts()
            self._tasks.start(self._follow_speculation(), name="speculation counts")
        config = self._llm.vllm_config
        return EngineInfo(
            model=self._model.name,
            max_model_len=config.model_config.max_model_len,
            block_size=config.cache_config.block_size,
            speculation=self._default,
        )

    @property
    def _default(self) -> str | None:
        """What drafts for a request that does not say, as the worker was told."""
        if (speculation := self._model.speculation) is None:
            return None
        return decided(speculation, Path(self._model_path)).default

    async def close(self) -> None:
        for gone in self._gone.values():
            gone.set()
        await self._tasks.close()
        await self._resources.aclose()

    def load(self) -> EngineLoad:
        return self._load.latest

    def speculation(self) -> SpeculationCounts | None:
        return self._load.speculation() if self._model.drafter else self._speculation

    async def _follow_speculation(self) -> None:
        """Ask the worker for its counts while it works, and once more when it has come to rest."""
        assert self._llm is not None
        while not self._llm.errored:
            await asyncio.sleep(_COUNTS_EVERY_S)
            if self._gone or self._has_answered:
                self._has_answered = False
                self._speculation = await adapter.speculation_counts(self._llm)

    def check_health(self) -> None:
        """Raise `EngineFailed` once vLLM has declared itself dead."""
        if self._llm is not None and self._llm.errored:
            raise EngineFailed("vLLM's engine core has died")

    async def render(self, request: EngineRequest) -> list[int]:
        parts: list[bytes] = []
        status = 0

        def collect(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            parts.append(message.get("body", b""))

        await call(
            self._app,
            method="POST",
            path=f"{request.path}/render",
            headers=request.headers,
            body=request.body,
            send=collect,
            gone=asyncio.Event(),
        )
        body = b"".join(parts)
        if status >= 500:
            raise EngineFailed(f"vLLM could not render the prompt: status {status}")
        if status != 200:
            reason = msgspec.json.decode(body, type=_Refusal).error
            raise BadRequest.of_engine(reason.message, reason.param)
        answer = msgspec.json.decode(body)
        rendered = answer[0] if isinstance(answer, list) else answer
        return list(rendered["token_ids"])

    async def warm(
        self, tokens: list[int], *, cache_salt: str | None = None, model: str | None = None
    ) -> Warmth:
        assert self._llm is not None
        lora = None
        if model not in (None, self._model.name):
            lora = adapter.lora_of(self._app, model)
        async with self._lane.turn():
            self._num_warm_calls += 1
            name, began = f"warm-{self._num_warm_calls}", time.monotonic()
            num_cached = await adapter.warm(self._llm, tokens, cache_salt, lora, name)
            return Warmth(num_cached, time.monotonic() - began)

    def serve(self, request: EngineRequest, *, logged: bytes = b"") -> Stream:
        stream = self._streams.create(request.stream_id, logged)
        stream.mark(Mark.RECEIVED, time.monotonic())
        gone = self._gone[request.stream_id] = asyncio.Event()
        if request.is_background:
            work = self._answer_behind(request, stream, gone)
        else:
            self._lane.give_way_to(stream)
            work = self._answer(request, stream, gone)
        task = self._tasks.start(work, name=f"answer {stream.id}")
        # Not in the task: one that is cancelled before its first turn runs no `finally`.
        task.add_done_callback(lambda _: self._left(stream))
        return stream

    def attach(self, stream_id: str, after: int) -> Stream:
        stream = self._streams.get(stream_id)
        stream.log.check_cursor(after)
        return stream

    async def abort(self, stream_id: str) -> None:
        if (held := self._held.get(stream_id)) is not None:
            held.cancel()
        elif (gone := self._gone.get(stream_id)) is not None:
            gone.set()

    def _failure(self, tap: Tap) -> HeadstartError | None:
        """Why what the app says of an answer is not for its reader."""
        assert self._llm is not None
        if self._llm.errored:
            # Another replica may go on with the answer: the app's own error must not end it.
            return EngineLost("the engine died while it answered")
        return tap.refusal

    def _is_over(self, gone: asyncio.Event, tap: Tap) -> Callable[[], bool]:
        return lambda: gone.is_set() or self._failure(tap) is not None

    def _left(self, stream: Stream) -> None:
        del self._gone[stream.id]
        self._has_answered = True
        stream.finish(StreamEnd(is_aborted=True))

    async def _answer_behind(
        self, request: EngineRequest, stream: Stream, gone: asyncio.Event
    ) -> None:
        """Answer once nobody waits."""
        task = asyncio.current_task()
        assert task is not None
        self._held[stream.id] = task
        try:
            async with self._lane.row():
                del self._held[stream.id]
                await self._answer(adapter.behind(request), stream, gone)
        finally:
            self._held.pop(stream.id, None)

    async def _answer(self, request: EngineRequest, stream: Stream, gone: asyncio.Event) -> None:
        tap = Tap(stream, request.body)
        current_tap.set(tap)
        answer = AnswerWriter(
            stream,
            api_of(request.path),
            tap.take,
            lambda: tap.speculated,
            self._is_over(gone, tap),
        )
        end = StreamEnd(is_aborted=True)

        def send(message: Message) -> None:
            try:
                answer.send(message)
            except PayloadTooLarge as error:
                tap.refusal = error
                gone.set()  # so that the app stops the engine, as for a reader who has left

        try:
            await call(
                self._app,
                method=request.method,
                path=request.path,
                headers=request.headers,
                body=request.body,
                send=send,
                gone=gone,
            )
            is_aborted = gone.is_set() and not isinstance(tap.refusal, PayloadTooLarge)
            end = tap.end(is_aborted=is_aborted)
            if not is_aborted and (failure := self._failure(tap)) is not None:
                end = msgspec.structs.replace(end, failure=Failure.of(failure))
        except Exception as error:  # the root of this task: whatever was raised becomes an end
            end = tap.end(is_aborted=False)
            header = stream.log.header
            if (failure := self._failure(tap)) is not None or isinstance(error, NotContinued):
                end = msgspec.structs.replace(end, failure=Failure.of(failure or error))
            # Starlette raises again what vLLM has already answered with a 500 of its own.
            elif header is None or header.status < 500:
                _log.error("answer_failed", stream_id=stream.id, exc_info=error)
                end = msgspec.structs.replace(end, failure=Failure.of(error))
        finally:
            if not end.is_whole:
                tap.mark_last(no_later_than=answer.framed_at)
            stream.mark(Mark.FRAMED, answer.framed_at)
            stream.finish(end)
