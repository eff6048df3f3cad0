"""The one place that touches non-public API of vLLM.

Written against vLLM 0.32. `tests/contract/test_adapter.py` exercises every name used here and
fails with the name on another version; nothing else in the project imports `vllm.v1` or
`vllm.entrypoints`, `vllm_tap` and `runner_adapter` apart.
"""

import copy
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import msgspec
import structlog

from headstart.cluster.engine import EngineLoad, EngineRequest
from headstart.cluster.model_folder import lora_rank
from headstart.cluster.parallel_drafter import PLAN, plan_of
from headstart.configs.model_settings import ModelSettings, parse_cores
from headstart.configs.speculation import DrafterSettings
from headstart.monitoring import logs
from headstart.stages.drafting import Source
from headstart.stages.errors import BadRequest, SetupError
from headstart.stages.speculation import SPECULATION_ARGUMENT
from headstart.stages.speculation_counts import (
    NO_LANGUAGE,
    LanguageCounts,
    SourceCounts,
    Speculated,
    SpeculationCounts,
)

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

LLM = TypeVar("LLM", bound="AsyncLLM")

_log = structlog.get_logger(__name__)

SMALL_BLOCKS_WORKER = "headstart.cluster.runner_adapter.SmallBlocksWorker"
WORKER = "headstart.cluster.runner_adapter.ParallelWorker"
DRAFT_MODEL_WORKER = "headstart.cluster.runner_adapter.DraftModelWorker"
DRAFTER = "headstart.cluster.parallel_drafter.ParallelDrafter"
"""Loaded by vLLM in its worker processes."""

_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM makes room for (`vllm/config/lora.py`); a larger rank it refuses itself."""

__all__ = [
    "OF_DATA",
    "LoadProbe",
    "answer_errors_alike",
    "behind",
    "build_app",
    "build_llm",
    "cannot_replay",
    "core_ids",
    "drafted_for",
    "engine_arguments",
    "engine_argv",
    "engine_environment",
    "engine_options",
    "lora_of",
    "ray_stat_loggers",
    "speculation_counts",
    "submit_replayed",
    "unread",
    "warm",
]


def engine_environment(model: ModelSettings, cores: str | None) -> dict[str, str]:
    """Environment a replica's process must be born with.

    Args:
        cores: CPU list for the model's threads, such as `1` or `0-3`; None lets vLLM choose.
    """
    environment = {
        # The engine core gets a process of its own either way; this saves the worker a second one
        # and with it the shared-memory queue that the two would poll.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        # One request is one place among a key's: it must not become millions of sequences.
        "VLLM_MAX_N_SEQUENCES": "128",
        "VLLM_MAX_COMPLETION_PROMPTS": "128",
        "VLLM_CPU_KVCACHE_SPACE": str(model.kv_cache_gib),
        "VLLM_LOGGING_CONFIG_PATH": str(logs.ENGINE_LOGGING),
        "VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "false",  # it would log answers
    }
    if cores is not None:
        environment |= _binding(cores)
    if model.speculation is not None:
        environment["VLLM_USE_V2_MODEL_RUNNER"] = "0"  # it has no place for a proposer of ours
    if model.gpus_per_replica:
        return environment
    if model.engine_args.get("enforce_eager"):
        # vLLM compiles parts of the sampler even then; on CPU the first request to need one
        # stalled the whole batch for 5 to 20 s, and decoding was no faster for it.
        environment["TORCHDYNAMO_DISABLE"] = "1"
    openmp = Path(sys.prefix) / "lib" / "libiomp5.so"
    if openmp.exists():
        environment["LD_PRELOAD"] = str(openmp)
    return environment


def _binding(cores: str) -> dict[str, str]:
    environment = {"VLLM_CPU_OMP_THREADS_BIND": cores}
    if "|" not in cores:
        # vLLM heeds that only where ranks are processes of their own. For an engine in one process
        # this is what it would set for a rank (`vllm/utils/ompmultiprocessing.py`).
        numbers = sorted(parse_cores(cores))
        environment |= {
            "OMP_NUM_THREADS": str(len(numbers)),
            "KMP_AFFINITY": f"granularity=fine,explicit,proclist={numbers}".replace(" ", ""),
            "KMP_BLOCKTIME": "5",
            "KMP_TPAUSE": "0",
        }
    return environment


def engine_argv(model: ModelSettings, model_path: str, drafter: str | None = None) -> list[str]:
    """Return the model's settings as arguments of vLLM's own server.

    Args:
        drafter: Path of a class that drafts in place of ours.

    Raises:
        SetupError: As far as vLLM is not asked: the model's speculation or adapters are not fit.
    """
    options = {
        "model": model_path,
        "served_model_name": model.name,
        # One rank runs in the engine core's own process, several beside it: one actor holds
        # all their GPUs. Left to choose, vLLM would ask Ray for more of them.
        "distributed_executor_backend": "uni" if model.num_ranks == 1 else "mp",
        # Who is in the background is told by a header, which `inbound` takes from nobody else.
        "scheduling_policy": "priority",
        # Adds the render routes, which `VllmEngine.render` calls; no client gets at them.
        "enable_scale_out": True,
        **engine_options(model),
        **_speculation_options(model, model_path, drafter or DRAFTER),
    }
    return _to_argv(options) + _lora_modules(model)


def _speculation_options(model: ModelSettings, model_path: str, ours: str) -> dict[str, Any]:
    """Have vLLM run our worker, which drafts several tokens a step, or a model that drafts.

    Raises:
        SetupError: The model's card, or a table of n-grams, is not fit; or a plugin of vLLM is
            installed that would see no drafted token.
    """
    if model.speculation is None:
        return {}
    if plugins := entry_points(group="vllm.logits_processors"):
        names = ", ".join(f"{each.name} ({each.value})" for each in plugins)
        raise SetupError(
            f"drafted tokens do not pass through the installed logits processors {names}: "
            f"uninstall them, or remove models.{model.name}.speculation"
        )
    if (drafter := model.drafter) is not None:
        return {
            "worker_cls": DRAFT_MODEL_WORKER,
            "speculative_config": {
                "method": drafter.method,
                "model": drafter.source,
                "num_speculative_tokens": drafter.num_tokens,
                **_by_rows(drafter),
            },
            "per_request_spec_decode_metrics": "summary",
        }
    plan = plan_of(model.speculation, Path(model_path), model.drafted_languages)
    return {
        "worker_cls": WORKER,
        "speculative_config": {
            "method": "custom_class",
            "model": ours,
            "num_speculative_tokens": plan["max_tokens"],
        },
        "additional_config": {PLAN: plan},
        # For `RequestOutput`s only: no body has them unless it is asked for with another flag.
        "per_request_spec_decode_metrics": "summary",
    }


def _by_rows(drafter: DrafterSettings) -> dict[str, Any]:
    """How many tokens a model drafts by the requests of a step, where that is not always the same.

    vLLM keeps to the last range from its end on.
    """
    if not (changes := sorted(drafter.num_tokens_by_rows.items())):
        return {}
    starts = [(1, drafter.num_tokens), *changes]
    ends = [start - 1 for start, _ in changes] + [changes[-1][0]]
    ranges = [(start, end, num) for (start, num), end in zip(starts, ends, strict=True)]
    return {"num_speculative_tokens_per_batch_size": ranges}


def engine_options(model: ModelSettings) -> dict[str, Any]:
    """Return what the settings ask of an engine, whoever runs it, by vLLM's names."""
    # Where something drafts, its worker has small blocks too.
    worker = {"worker_cls": SMALL_BLOCKS_WORKER} if model.has_small_blocks else {}
    return {
        **worker,
        "block_size": model.block_size,
        "dtype": model.dtype,
        "max_model_len": model.max_model_len,
        **_lora_options(model),
        **model.engine_args,
    }


def _lora_options(model: ModelSettings) -> dict[str, Any]:
    """Make room for every adapter of a model at once.

    Raises:
        SetupError: An adapter's folder is not fit.
    """
    if not model.adapters:
        return {}
    rank = max(map(lora_rank, model.adapters.values()))
    return {
        "enable_lora": True,
        "max_loras": len(model.adapters),
        "max_lora_rank": next((size for size in _LORA_RANKS if size >= rank), rank),
    }


def _lora_modules(model: ModelSettings) -> list[str]:
    if not model.adapters:
        return []
    modules = [
        json.dumps({"name": name, "path": str(Path(folder).expanduser().resolve())})
        for name, folder in model.adapters.items()
    ]
    return ["--lora-modules", *modules]


def engine_arguments(
    model: ModelSettings, model_path: str, drafter: str | None = None
) -> Namespace:
    """Have vLLM's own parser read the model's settings.

    Args:
        drafter: As of `engine_argv`.

    Raises:
        SetupError: vLLM refuses an argument, or as `engine_argv`.
    """
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    class Parser(FlexibleArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise ValueError(message)  # argparse would print it and exit

    argv = engine_argv(model, model_path, drafter)
    parser = make_arg_parser(Parser(exit_on_error=False))  # type: ignore[no-untyped-call]
    try:
        args: Namespace = parser.parse_args(argv)
        validate_parsed_serve_args(args)
    except Exception as error:
        raise SetupError(
            f"vLLM refuses models.{model.name}.engine_args: {_line(error)}", param="engine_args"
        ) from error
    return args


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _to_argv(options: dict[str, Any]) -> list[str]:
    argv: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is None:
            continue
        if value is True:
            argv.append(flag)
        elif value is False:
            argv.append(flag.replace("--", "--no-", 1))
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            argv.append(f"{flag}={text}")
    return argv


def build_llm(kind: "type[LLM]", args: Namespace, stat_loggers: list[Any]) -> "LLM":
    """Start an engine of class `kind`.

    Raises:
        SetupError: vLLM cannot load the model.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    try:
        engine_args = AsyncEngineArgs.from_cli_args(args)
        llm = kind.from_engine_args(
            engine_args, usage_context=UsageContext.OPENAI_API_SERVER, stat_loggers=stat_loggers
        )
    except Exception as error:
        raise SetupError(f"vLLM cannot load {args.model}: {_line(error)}") from error
    assert isinstance(llm, kind)
    if args.worker_cls == WORKER:
        # vLLM refuses `min_p` and `logit_bias` where it speculates; our worker has both, and
        # leaves such requests without drafts.
        llm.input_processor.speculative_config = None
    return llm


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
        arguments = {SPECULATION_ARGUMENT: "off"}
        params = SamplingParams(max_tokens=1, detokenize=False, extra_args=arguments)
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


def core_ids(queue: Any, params: Any) -> tuple[str, ...]:
    """Return what the engine core calls each choice of a request.

    Args:
        queue: What `add_request` returned.
        params: The request's.
    """
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
    was drafted.

    Args:
        language: Of the requests that a model drafts for.
    """

    def __init__(self, language: str = NO_LANGUAGE) -> None:
        self.latest = EngineLoad()
        self.drafted = LanguageCounts(sources={Source.MODEL: SourceCounts()})
        """By vLLM's own proposer."""
        self._language = language
        self.kv_cache_usage = 0.0
        """Share of the cache's blocks that requests hold."""
        self.preempted = 0
        """How often a request lost its place in the cache."""

    def speculation(self) -> SpeculationCounts:
        """Return the same as `speculation_counts`, for an engine in which a model drafts.

        vLLM tells no times. Steps without a draft are not in it.
        """
        return SpeculationCounts(languages={self._language: copy.deepcopy(self.drafted)})

    def _note(self, stats: Any) -> None:
        source = self.drafted.sources[Source.MODEL]
        drafted, accepted = stats.num_draft_tokens_per_pos, stats.num_accepted_tokens_per_pos
        news = SourceCounts(stats.num_drafts, list(drafted), list(accepted))
        self.drafted.sources[Source.MODEL] = source.plus(news)
        self.drafted.rows += stats.num_drafts
        self.drafted.tokens += stats.num_drafts + stats.num_accepted_tokens

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
                if iteration_stats is not None:
                    probe.preempted += iteration_stats.num_preempted_reqs
                if scheduler_stats is not None:
                    if scheduler_stats.spec_decoding_stats is not None:
                        probe._note(scheduler_stats.spec_decoding_stats)
                    probe.kv_cache_usage = scheduler_stats.kv_cache_usage
                    probe.latest = EngineLoad(
                        scheduler_stats.num_running_reqs, scheduler_stats.num_waiting_reqs
                    )

            def log_engine_initialized(self) -> None:
                pass

        return Logger()


def ray_stat_loggers() -> tuple[Any, ...]:
    """vLLM's own metrics on the port of Ray's: `ray_vllm_*`, one series per replica."""
    from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

    return (RayPrometheusStatLogger,)
