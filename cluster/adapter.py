"""What is asked of a running vLLM: one of the places that touch its non-public API.

An engine is started by `launch_adapter`, which knows our settings and nothing of requests; here it
is the other way round. Both are written against vLLM 0.32, and `tests/contract/test_adapter.py`
exercises every name that they use and fails with the name on another version. Nothing else in the
project imports `vllm.v1` or `vllm.entrypoints`, `vllm_tap` and `runner_adapter` apart.
"""

import copy
from argparse import Namespace
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from headstart.cluster.engine import EngineLoad, EngineRequest
from headstart.cluster.launch_adapter import WORKER
from headstart.cluster.parallel_drafter import PLAN
from headstart.stages.drafting import Source
from headstart.stages.errors import BadRequest
from headstart.stages.speculation_counts import (
    LanguageCounts,
    SourceCounts,
    Speculated,
    SpeculationCounts,
)
from headstart.stages.speculation_labels import NO_LANGUAGE
from headstart.stages.wish import Wish, wish_arguments

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

_log = structlog.get_logger(__name__)

__all__ = [
    "OF_DATA",
    "LoadProbe",
    "answer_errors_alike",
    "behind",
    "build_app",
    "cannot_replay",
    "drafted_for",
    "drafted_ids",
    "lora_of",
    "speculation_counts",
    "submit_replayed",
    "undraftable",
    "unread",
    "warm",
]


async def build_app(llm: "AsyncLLM", args: Namespace) -> Any:
    """Build vLLM's OpenAI app around a running engine."""
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app as build_vllm_app

    tasks = await llm.get_supported_tasks()
    app = build_vllm_app(args, tasks, llm.model_config)
    await init_app_state(llm, app.state, args, tasks)
    # vLLM's error handlers ask this server to exit when the engine is dead.
    app.state.server = SimpleNamespace(should_exit=False)
    return app


OF_DATA = (AttributeError, LookupError, ArithmeticError, RecursionError, AssertionError)
"""What code raises that meets data it does not expect. vLLM takes a `ValueError` or a `TypeError`
for the client's fault, and answers 500 to these."""


def unread(error: Exception) -> str:
    """Say that a request cannot be read, for one of `OF_DATA`, and note why."""
    _log.warning("request_unread", exc_info=error)
    return (
        "the engine cannot make sense of this request: some field has an unexpected form "
        f"({type(error).__name__})"
    )


def answer_errors_alike(app: Any, is_asked: Callable[[], bool]) -> None:
    """Have the app put every error in OpenAI's shape, and call the client's fault what is.

    Args:
        app: As `build_app` made it; it has answered nothing yet.
        is_asked: Whether the current request has got as far as the engine: what is raised before
            comes of the request alone.
    """
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse
    from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
    from vllm.entrypoints.serve.exception_handling.handlers.http import http_exception_handler

    async def refuse(_request: Any, error: Exception) -> JSONResponse:
        if is_asked():
            raise error
        answer = create_error_response(unread(error))
        return JSONResponse(answer.model_dump(), answer.error.code)

    # FastAPI's own exception is a subclass: vLLM answers that, and not what Starlette raises.
    app.add_exception_handler(HTTPException, http_exception_handler)
    for kind in OF_DATA:
        app.add_exception_handler(kind, refuse)
    app.middleware_stack = None  # the last step of `build_app` has made it, without these


def behind(request: EngineRequest) -> EngineRequest:
    """Return a request that vLLM schedules after all that have no such header."""
    headers = (*request.headers, ("x-vllm-priority", "1"))
    return msgspec.structs.replace(request, headers=headers)


def lora_of(app: Any, name: str) -> Any:
    """Return what a request for an adapter's name is served with.

    Raises:
        BadRequest: vLLM has no adapter of this name.
    """
    lora = app.state.openai_serving_models.lora_requests.get(name)
    if lora is None:
        raise BadRequest(f"no model {name}")
    return lora


async def warm(
    llm: "AsyncLLM", tokens: list[int], cache_salt: str | None, lora: Any, request_id: str
) -> int:
    """Compute a prompt into the prefix cache and return how many tokens were there already."""
    from vllm import SamplingParams
    from vllm.exceptions import VLLMClientError
    from vllm.inputs import TokensPrompt

    prompt = TokensPrompt(prompt_token_ids=tokens)
    if cache_salt is not None:
        prompt["cache_salt"] = cache_salt
    cached = 0
    try:
        wish: dict[str, Any] = {**wish_arguments("off")}
        params = SamplingParams(max_tokens=1, detokenize=False, extra_args=wish)
        async for output in llm.generate(prompt, params, request_id, lora_request=lora):
            cached = output.num_cached_tokens or 0
    except (ValueError, VLLMClientError) as error:  # too long, none at all, no such id
        raise BadRequest(str(error)) from error
    return cached


async def speculation_counts(llm: "AsyncLLM") -> SpeculationCounts:
    """Ask the workers what speculation has done: of those that sample, the first one drafts."""
    found = await llm.collective_rpc("speculation_counts")
    return msgspec.msgpack.decode(next(filter(None, found)), type=SpeculationCounts)


async def drafted_for(llm: "AsyncLLM", requests: Sequence[str]) -> Speculated | None:
    """Ask the worker what it drafted for some requests, of which vLLM does not say it.

    Args:
        requests: By the engine core's own ids.

    Returns: None where another worker drafts, which cannot say.
    """
    if llm.vllm_config.parallel_config.worker_cls != WORKER:
        return None
    found = await llm.collective_rpc("drafted_for", args=(list(requests),))
    return msgspec.msgpack.decode(next(filter(None, found)), type=Speculated)


def drafted_ids(llm: "AsyncLLM", queue: Any, params: Any) -> tuple[str, ...]:
    """Return what the engine core calls the choices of a request, if it may be drafted for.

    Args:
        queue: What `add_request` returned.
        params: The request's.
    """
    config: Any = llm.vllm_config.additional_config or {}
    plan = config.get(PLAN)
    if plan is not None and Wish.of(params.extra_args, plan["default"]).mode == "off":
        return ()
    num_choices = getattr(params, "n", None) or 1
    if num_choices == 1:
        return (queue.request_id,)
    return tuple(f"{index}_{queue.request_id}" for index in range(num_choices))


_OF_OUTPUT = {
    "seed": "a seed draws from the beginning",
    "presence_penalty": "presence_penalty counts the answer's tokens",
    "frequency_penalty": "frequency_penalty counts the answer's tokens",
    "bad_words": "bad_words look at the answer's tokens",
    "structured_outputs": "a grammar follows the answer from its beginning",
    "repetition_detection": "repetition_detection looks at the answer's tokens",
    "thinking_token_budget": "thinking_token_budget counts the answer's tokens",
    "watermarking": "a watermark follows the answer from its beginning",
    "logprobs": "logprobs of its beginning are not kept",
    "logprob_token_ids": "logprobs of its beginning are not kept",
    "prompt_logprobs": "logprobs of its beginning are not kept",
    "prompt_logprob_token_ids": "logprobs of its beginning are not kept",
}
"""Sampling parameters whose effect depends on what of a text is answer and what is prompt."""


def undraftable(llm: "AsyncLLM", params: Any) -> str | None:
    """Return the field of a request that an engine cannot answer because it drafts; None if none.

    vLLM's rejection sampler puts the log probabilities of asked-for tokens into a place of another
    shape, and the engine ends, though nothing be drafted for that request.
    """
    drafts = llm.vllm_config.speculative_config is not None
    return "logprob_token_ids" if drafts and params.logprob_token_ids is not None else None


def cannot_replay(params: Any) -> str | None:
    """Return why an answer with these sampling parameters cannot be continued; None if it can."""
    if (params.n or 1) > 1:
        return "n choices draw from one another's tokens"
    for name, reason in _OF_OUTPUT.items():
        value = getattr(params, name)
        is_unset = value is None or value is False or value == []
        is_zero = name.endswith("_penalty") and value == 0
        is_undrawn = name == "seed" and params.temperature == 0
        if not (is_unset or is_zero or is_undrawn):
            return reason
    return None


class _Recorder:
    """Stands in for a request's queue of outputs, which would merge what nobody has taken."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []

    def put(self, output: Any) -> None:
        self.outputs.append(output)


async def submit_replayed(
    llm: "AsyncLLM", request: Any, prompt: str | None, queue: Any, steps: list[tuple[int, ...]]
) -> list[Any]:
    """Ask the engine to go on with an answer whose first tokens are known.

    vLLM's output processor sees the request as it is, and the known tokens as the steps of an
    engine: so its detokeniser and its search for stop strings are where they would be. The engine
    core gets prompt and known tokens as one prompt.

    Returns: What the known steps gave, for the app to see before what comes through `queue`.
    """
    from vllm.v1.core.sched.utils import check_stop
    from vllm.v1.engine import EngineCoreOutput
    from vllm.v1.request import Request

    llm.check_admission(request_id=request.request_id)
    recorder = _Recorder()
    states = llm.output_processor.request_states
    known = Request.from_engine_core_request(request, None)
    llm.output_processor.add_request(request, prompt, None, 0, recorder)  # type: ignore[arg-type]
    for tokens in steps:
        known.append_output_token_ids(list(tokens))
        is_last = check_stop(known, llm.model_config.max_model_len)
        output = EngineCoreOutput(
            request.request_id,
            list(tokens),
            finish_reason=known.get_finished_reason() if is_last else None,
            stop_reason=known.stop_reason if is_last else None,
        )
        llm.output_processor.process_outputs([output])
        if request.request_id not in states:  # it was complete, but for what comes after it
            queue.put(recorder.outputs.pop())
            return recorder.outputs
    state = states[request.request_id]
    state.queue = queue
    state.is_prefilling = True  # so that the real prefill is counted
    await llm.engine_core.add_request_async(_rest_of(request, known.output_token_ids))
    return recorder.outputs


def _rest_of(request: Any, known: Sequence[int]) -> Any:
    """What the engine core has left to do."""
    rest = copy.copy(request)
    rest.prompt_token_ids = [*request.prompt_token_ids, *known]
    rest.sampling_params = copy.deepcopy(request.sampling_params)
    rest.sampling_params.max_tokens -= len(known)
    rest.sampling_params.min_tokens = max(0, rest.sampling_params.min_tokens - len(known))
    return rest


class LoadProbe:
    """A vLLM stat logger that remembers how many requests run and wait, were preempted, and what
    they gained.

    Args:
        language: Of the requests that a model drafts for.
    """

    def __init__(self, language: str = NO_LANGUAGE) -> None:
        self.latest = EngineLoad()
        self.decoded = LanguageCounts(sources={Source.MODEL: SourceCounts()})
        """In all steps, those without a draft too; drafts are of vLLM's own proposer."""
        self._language = language
        self.kv_cache_usage = 0.0
        """Share of the cache's blocks that requests hold."""
        self.preempted = 0
        """How often a request lost its place in the cache."""

    def speculation(self) -> SpeculationCounts:
        """Return the same as `speculation_counts`, for an engine in which a model drafts.

        vLLM tells neither times nor kinds of steps.
        """
        return SpeculationCounts(languages={self._language: copy.deepcopy(self.decoded)})

    def step(self, scheduler_stats: Any, iteration_stats: Any) -> None:
        """Take what vLLM tells of a step; None where it tells nothing."""
        if iteration_stats is not None:
            self.preempted += iteration_stats.num_preempted_reqs
            self._count_rows(iteration_stats)
        if scheduler_stats is not None:
            if scheduler_stats.spec_decoding_stats is not None:
                self._count_drafts(scheduler_stats.spec_decoding_stats)
            self.kv_cache_usage = scheduler_stats.kv_cache_usage
            self.latest = EngineLoad(
                scheduler_stats.num_running_reqs, scheduler_stats.num_waiting_reqs
            )

    def _count_rows(self, stats: Any) -> None:
        # There is a latency for each request that gained something, be it its first token. Tokens
        # less accepted ones would be too few: an answer's end may cut what was accepted.
        firsts, laters = stats.time_to_first_tokens_iter, stats.inter_token_latencies_iter
        self.decoded.rows += len(firsts) + len(laters)
        self.decoded.tokens += stats.num_generation_tokens

    def _count_drafts(self, stats: Any) -> None:
        source = self.decoded.sources[Source.MODEL]
        drafted, accepted = stats.num_draft_tokens_per_pos, stats.num_accepted_tokens_per_pos
        news = SourceCounts(stats.num_drafts, list(drafted), list(accepted))
        self.decoded.sources[Source.MODEL] = source.plus(news)

    def factory(self, vllm_config: Any, engine_index: int = 0) -> Any:
        """Build the logger; passed to vLLM as a stat logger factory."""
        from vllm.v1.metrics.loggers import StatLoggerBase

        probe = self

        class Logger(StatLoggerBase):
            def __init__(self) -> None:
                pass

            def record(
                self, scheduler_stats: Any, iteration_stats: Any = None, *_: Any, **__: Any
            ) -> None:
                probe.step(scheduler_stats, iteration_stats)

            def log_engine_initialized(self) -> None:
                pass

        return Logger()
