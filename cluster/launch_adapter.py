"""What vLLM is started with: environment, arguments and workers, made from our settings.

One of the places that touch vLLM's non-public API; what is asked of the running engine is in
`adapter`, which says the rest.
"""

import json
import sys
from argparse import Namespace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from headstart.cluster.model_folder import lora_rank
from headstart.cluster.parallel_drafter import PLAN, plan_of
from headstart.configs.model_settings import ModelSettings, parse_cores
from headstart.configs.speculation import DrafterSettings
from headstart.monitoring import logs
from headstart.stages.errors import SetupError

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

__all__ = [
    "DRAFTER",
    "DRAFT_MODEL_WORKER",
    "WORKER",
    "build_llm",
    "engine_arguments",
    "engine_argv",
    "engine_environment",
    "engine_options",
    "ray_stat_loggers",
]

LLM = TypeVar("LLM", bound="AsyncLLM")

PLAIN_WORKER = "headstart.cluster.runner_adapter.PlainWorker"
WORKER = "headstart.cluster.runner_adapter.ParallelWorker"

DRAFT_MODEL_WORKER = "headstart.cluster.runner_adapter.DraftModelWorker"

DRAFTER = "headstart.cluster.parallel_drafter.ParallelDrafter"
"""Loaded by vLLM in its worker processes."""


_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM makes room for (`vllm/config/lora.py`); a larger rank it refuses itself."""


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
            # The same for any number of requests. Without it vLLM fills requests of one token that
            # begin up to a full draft of nothing, for CUDA graphs that our drafts do not fit.
            "num_speculative_tokens_per_batch_size": [(1, 1, plan["max_tokens"])],
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
    # It mends what is wrong on CPU; the workers that draft are of its kind.
    worker = {} if model.gpus_per_replica else {"worker_cls": PLAIN_WORKER}
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


def ray_stat_loggers() -> tuple[Any, ...]:
    """vLLM's own metrics on the port of Ray's: `ray_vllm_*`, one series per replica."""
    from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

    return (RayPrometheusStatLogger,)
