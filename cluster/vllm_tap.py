"""Listens in on vLLM while its own app answers a request.

The app asks the engine through `AsyncLLM.generate` or, for embeddings, `encode`. `TappedLLM`
overrides these public methods: whatever the engine yields is shown to the `Tap` of the current
request (a context variable) and passed on untouched, so chat, completions, tools and the rest stay
vLLM's own.
"""

import json
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

from vllm.outputs import PoolingRequestOutput, RequestOutput
from vllm.v1.engine.async_llm import AsyncLLM

from headstart.cluster import adapter
from headstart.cluster.stream import Stream
from headstart.stages.errors import BadRequest, NotContinued, PayloadTooLarge
from headstart.stages.mirror import StreamEnd
from headstart.stages.speculation_counts import Speculated
from headstart.stages.stage_clock import Mark

__all__ = ["Tap", "TappedLLM", "current_tap", "is_asked"]

current_tap: ContextVar["Tap | None"] = ContextVar("current_tap", default=None)


_FORMS = ("structured_outputs", "response_format", "text", "tools")
"""Fields of a body that may say which form its answer has."""


def is_asked() -> bool:
    """Whether the current request has got as far as the engine."""
    tap = current_tap.get()
    return tap is not None and tap.is_asked


class Tap:
    """What one request has drawn from the engine: tokens not yet framed, times, counts.

    Args:
        stream: Where its answer is kept.
        body: As the app gets it.
    """

    def __init__(self, stream: Stream, body: bytes) -> None:
        self._stream = stream
        self._body = body
        self.is_asked = False
        """Whether a prompt of it has been read and handed to the engine."""
        self._has_form = False
        self._unframed: dict[int, list[int]] = {}
        self._num_choices = 0
        self._prompt_tokens: dict[int, int] = {}
        self._cached_tokens: dict[int, int] = {}
        self._pooled_tokens = 0
        """Of prompts that were only embedded."""
        self._output_tokens = 0
        self._finish_reasons: dict[int, str] = {}
        self._speculated = Speculated()
        """What was drafted for the choices that have ended, as far as it was told."""
        self._is_partly_told = False
        """Whether nobody can say what was drafted for one of them."""
        self._core_ids: dict[str, tuple[str, ...]] = {}
        """What the engine core calls the choices of a request."""
        self._untold: list[str] = []
        """By the core's ids: those that have ended, and of which vLLM does not say what was
        drafted."""
        self._steps: dict[str, list[tuple[int, ...]]] = {}
        self._replayed: dict[str, list[RequestOutput]] = {}
        self._latest: tuple[float, float] | None = None
        """When the engine sampled the latest token, and when its text was here."""
        self.refusal: NotContinued | PayloadTooLarge | BadRequest | None = None
        """Set where what the app says of the answer is not, or not any more, for its reader."""

    @property
    def speculated(self) -> Speculated | None:
        """What was drafted for the choices that have ended; None is nothing, or not all known."""
        is_known = self._speculated.steps and not self._is_partly_told
        return self._speculated if is_known else None

    def check(self, llm: AsyncLLM, params: Any) -> None:
        """Refuse what the engine would not survive.

        Raises:
            ValueError: It is nothing for an engine that drafts.
        """
        if (field := adapter.undraftable(llm, params)) is None:
            return
        self.refusal = BadRequest(
            f"`{field}` is refused where several tokens a step are decoded: ask for `logprobs`",
            param=field,
        )
        raise ValueError(self.refusal.message)

    def begin(self, params: Any, request_id: str) -> int:
        """Note that the app asks the engine for the answer to one more prompt.

        Returns: The number of its first choice.

        Raises:
            ValueError: The answer was begun elsewhere, and nobody can go on with it.
        """
        first_choice = self._num_choices
        self._num_choices += params.n or 1
        self._has_form = params.structured_outputs is not None
        if self._stream.clock.get(Mark.TOKENISED) is None:
            self._stream.mark(Mark.TOKENISED, time.monotonic())
        replay = self._stream.replay
        if replay is None:
            return first_choice
        if (reason := adapter.cannot_replay(params)) is not None:
            self.refusal = NotContinued(
                f"the replica was lost while it answered, and no other can go on: {reason}"
            )
            raise ValueError(reason)
        self._steps[request_id] = replay.steps(first_choice)
        return first_choice

    def steps(self, request_id: str) -> list[tuple[int, ...]]:
        """Hand over the steps that a request shall begin with."""
        return self._steps.pop(request_id, [])

    def submitted(self, request_id: str, core_ids: tuple[str, ...]) -> None:
        """Note that the engine has a request, and what its core calls each choice of it that may be
        drafted for."""
        self.is_asked = True
        self._core_ids[request_id] = core_ids

    async def ask_untold(self, llm: AsyncLLM) -> None:
        """Have the worker say what vLLM did not, once the engine has no more to say."""
        untold, self._untold = self._untold, []
        if not untold:
            return
        drafted = await adapter.drafted_for(llm, untold)
        if drafted is None:  # a sum without them would be wrong
            self._is_partly_told = True
        else:
            self._speculated = drafted.plus(self._speculated)

    def replayed(self, request_id: str, outputs: list[RequestOutput]) -> None:
        """Take what these steps gave, for the app to see before anything else."""
        self._replayed[request_id] = outputs

    def take(self, choice: int) -> tuple[int, ...]:
        """Hand over the token ids of a choice that no frame has carried yet."""
        return tuple(self._unframed.pop(choice, ()))

    def end(self, *, is_aborted: bool) -> StreamEnd:
        """Sum up the request."""
        return StreamEnd(
            prompt_tokens=sum(self._prompt_tokens.values()) + self._pooled_tokens,
            cached_tokens=sum(self._cached_tokens.values()),
            output_tokens=self._output_tokens,
            finish_reasons=tuple(reason for _, reason in sorted(self._finish_reasons.items())),
            is_aborted=is_aborted,
            speculated=self.speculated,
        )

    async def watch(
        self,
        llm: AsyncLLM,
        source: AsyncGenerator[RequestOutput, None],
        first_choice: int,
        request_id: str,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Yield what `source` yields, noting it, after what was replayed for the request.

        Raises:
            ValueError: The request's prompt or parameters cannot be read.
        """
        async with aclosing(source):
            try:
                async for output in source:
                    for one in (*self._replayed.pop(request_id, ()), output):
                        self._note(one, first_choice)
                        yield one
                await self.ask_untold(llm)  # before the app sums up
            except adapter.OF_DATA as error:
                if self.is_asked:
                    raise
                raise ValueError(adapter.unread(error)) from error

    async def count(
        self, source: AsyncGenerator[PoolingRequestOutput, None]
    ) -> AsyncGenerator[PoolingRequestOutput, None]:
        """Yield what `source` yields, counting the prompt: an embedding is nothing else."""
        async with aclosing(source):
            async for output in source:
                if output.finished:
                    self._pooled_tokens += len(output.prompt_token_ids)
                yield output

    def _note(self, output: RequestOutput, first_choice: int) -> None:
        if output.prompt_token_ids is not None:
            self._prompt_tokens[first_choice] = len(output.prompt_token_ids)
        if output.num_cached_tokens:
            # An answer that was begun elsewhere may find tokens of its own in the cache too.
            self._cached_tokens[first_choice] = min(
                output.num_cached_tokens, self._prompt_tokens.get(first_choice, 0)
            )
        for completion in output.outputs:
            if completion.finish_reason == "error" and self._has_form and not self._output_tokens:
                self._refuse_form()
            choice = first_choice + completion.index
            self._unframed.setdefault(choice, []).extend(completion.token_ids)
            self._output_tokens += len(completion.token_ids)
            if completion.finish_reason is not None:
                self._finish_reasons[choice] = completion.finish_reason
                self._note_speculation(completion.spec_decode_metrics)
                if completion.spec_decode_metrics is None and completion.stop_reason is not None:
                    # A stop string: found here, while the engine core goes on.
                    core_ids = self._core_ids.get(output.request_id, ())
                    self._untold += core_ids[completion.index : completion.index + 1]
        self._stream.tokens = sum(self._prompt_tokens.values()), self._output_tokens
        self._note_times(output)

    def _refuse_form(self) -> None:
        """Take it for the client's fault that the engine gave up before the first token.

        vLLM compiles what an answer has to look like beside the engine's steps, and says of what
        does not compile, or lets no token through, only that there was an error.
        """
        tree = json.loads(self._body)
        self.refusal = BadRequest(
            "the engine cannot make an answer of this form: the grammar, regular expression or "
            "schema refers to itself without end, is too large, or allows nothing",
            param=next((name for name in _FORMS if tree.get(name) is not None), None),
        )

    def _note_speculation(self, metrics: Any) -> None:
        """Add what one choice's drafts came to: accepted tokens are counted by verified step."""
        if metrics is None or not metrics.num_draft_tokens:
            return
        accepted = sum(tokens * steps for tokens, steps in enumerate(metrics.histogram))
        news = Speculated(metrics.num_draft_tokens, accepted, sum(metrics.histogram))
        self._speculated = news.plus(self._speculated)

    def _note_times(self, output: RequestOutput) -> None:
        metrics = output.metrics
        if metrics is None or not metrics.first_token_ts:
            return
        stream = self._stream
        # These stamps are the engine core's time.monotonic(). That process is this one's child,
        # so both read the same CLOCK_MONOTONIC; `arrival_time` is wall clock and is not used.
        if stream.clock.get(Mark.FIRST_TOKEN) is None:
            stream.mark(Mark.SCHEDULED, metrics.scheduled_ts)
            stream.mark(Mark.FIRST_TOKEN, metrics.first_token_ts)
        self._latest = metrics.last_token_ts, time.monotonic()
        if output.finished:
            self.mark_last()

    def mark_last(self, no_later_than: float = math.inf) -> None:
        """Take the latest token for the last: of an answer that is cut, it is."""
        if self._latest is not None:
            for mark, at in zip((Mark.LAST_TOKEN, Mark.DETOKENISED), self._latest, strict=True):
                self._stream.mark(mark, min(at, no_later_than))


class TappedLLM(AsyncLLM):
    """`AsyncLLM` whose outputs the current request's tap may see."""

    # A plain function, not an async generator: the app calls `generate` for every prompt before
    # it iterates any, and that order is what numbers the choices.
    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        source = super().generate(prompt, sampling_params, request_id, **options)
        tap = current_tap.get()
        if tap is None:
            return source
        tap.check(self, sampling_params)
        return tap.watch(self, source, tap.begin(sampling_params, request_id), request_id)

    async def add_request(
        self, request_id: str, prompt: Any, params: Any, *args: Any, **options: Any
    ) -> Any:
        queue = await super().add_request(request_id, prompt, params, *args, **options)
        tap = current_tap.get()
        if tap is not None:
            tap.submitted(request_id, adapter.drafted_ids(self, queue, params))
        return queue

    def encode(self, *args: Any, **options: Any) -> AsyncGenerator[PoolingRequestOutput, None]:
        source = super().encode(*args, **options)
        tap = current_tap.get()
        return source if tap is None else tap.count(source)

    # Not public: between the output processor, which makes text of tokens, and the engine core.
    async def _add_request(
        self, request: Any, prompt: str | None, parent: Any, index: int, queue: Any
    ) -> None:
        tap = current_tap.get()
        if tap is not None:
            tap.is_asked = True
        steps = tap.steps(request.external_req_id) if tap is not None else []
        if tap is None or not steps:
            await super()._add_request(request, prompt, parent, index, queue)
            return
        outputs = await adapter.submit_replayed(self, request, prompt, queue, steps)
        tap.replayed(request.external_req_id, outputs)
