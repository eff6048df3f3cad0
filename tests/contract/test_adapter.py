"""Everything that the adapters rely on and nobody promised, as vLLM 0.32 and Ray 2.60 have it.

After an upgrade the failures here are the list of what to read again.
"""

import ast
import importlib
import inspect
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headstart.cluster.parallel_drafter import PLAN
from headstart.configs.model_settings import ModelSettings
from headstart.stages.wish import wish_arguments

pytestmark = pytest.mark.usefixtures("quiet_imports")

ROOT = Path(__file__).parents[2]
ADAPTERS = tuple(
    ROOT / "cluster" / name
    for name in (
        "adapter.py",
        "launch_adapter.py",
        "ray_adapter.py",
        "runner_adapter.py",
        "vllm_tap.py",
    )
)
PRIVATE = ("vllm.v1", "vllm.entrypoints", "ray._private", "ray.serve._private")

VERSIONS = {"vllm": "0.32.", "ray": "2.60."}

CALLED = {
    "vllm:SamplingParams": "n max_tokens detokenize extra_args",
    "vllm.engine.arg_utils:AsyncEngineArgs.from_cli_args": "args",
    "vllm.entrypoints.launchers.api_server.app_state:init_app_state": (
        "engine_client state args supported_tasks"
    ),
    "vllm.entrypoints.launchers.app:build_app": "args supported_tasks model_config",
    "vllm.entrypoints.launchers.cli_args:make_arg_parser": "parser",
    "vllm.entrypoints.launchers.cli_args:validate_parsed_serve_args": "args",
    "vllm.entrypoints.serve.exception_handling.error_response:create_error_response": "message",
    "vllm.entrypoints.serve.exception_handling.handlers.http:http_exception_handler": "req exc",
    "vllm.utils.argparse_utils:FlexibleArgumentParser.parse_args": "args",
    "vllm.v1.core.sched.utils:check_stop": "request max_model_len",
    "vllm.v1.engine:EngineCoreOutput": "request_id new_token_ids finish_reason stop_reason",
    "vllm.v1.engine.async_llm:AsyncLLM._add_request": "request prompt parent_req index queue",
    "vllm.v1.engine.async_llm:AsyncLLM.add_request": "request_id prompt params",
    "vllm.v1.engine.async_llm:AsyncLLM.check_admission": "request_id",
    "vllm.v1.engine.core_client:AsyncMPClient.add_request_async": "request",
    "vllm.v1.engine.output_processor:OutputProcessor.add_request": (
        "request prompt parent_req request_index queue"
    ),
    "vllm.v1.engine.output_processor:OutputProcessor.process_outputs": "engine_core_outputs",
    "vllm.v1.request:Request.from_engine_core_request": "request block_hasher",
    "vllm.v1.request:Request.append_output_token_ids": "token_ids",
    "vllm.v1.request:Request.get_finished_reason": "",
    "vllm.v1.engine.async_llm:AsyncLLM.from_engine_args": "engine_args usage_context stat_loggers",
    "vllm.v1.engine.async_llm:AsyncLLM.generate": (
        "prompt sampling_params request_id lora_request"
    ),
    "vllm.v1.engine.async_llm:AsyncLLM.encode": "prompt pooling_params request_id",
    "vllm.v1.engine.async_llm:AsyncLLM.get_supported_tasks": "",
    "vllm.v1.engine.async_llm:AsyncLLM.shutdown": "",
    "vllm.v1.engine.async_llm:AsyncLLM.collective_rpc": "method args",
    "vllm.config:ModelConfig.get_head_size": "",
    "vllm.distributed:get_tensor_model_parallel_rank": "",
    "vllm.utils.torch_utils:is_quantized_kv_cache": "kv_cache_dtype",
    "vllm.v1.attention.backend:MultipleOf": "base",
    "vllm.v1.attention.backends.cpu_attn:"
    "CPUAttentionBackend.get_supported_kernel_block_sizes": "kv_cache_spec",
    "vllm.v1.attention.backends.cpu_attn:_get_attn_isa": (
        "dtype block_size head_size kv_cache_dtype"
    ),
    "vllm.v1.sample.logits_processor:LogitsProcessors": "logitsprocs",
    "vllm.v1.sample.rejection_sampler:expand_batch_to_tokens": (
        "x cu_num_tokens num_tokens replace_from replace_to"
    ),
    "vllm.v1.sample.rejection_sampler:_rejection_greedy_sample": (
        "output_token_ids cu_num_draft_tokens draft_token_ids target_argmax bonus_token_ids"
    ),
    "vllm.v1.worker.cpu_worker:CPUWorker.init_device": "",
    "vllm.v1.worker.gpu_worker:Worker.init_device": "",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner.execute_model": "scheduler_output",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner._sample": "logits spec_decode_metadata",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner._input_fits_in_drafter": "",
    "vllm.v1.worker.gpu_model_runner:GPUModelRunner.propose_draft_token_ids": (
        "scheduler_output sampled_token_ids"
    ),
    "vllm.v1.spec_decode.custom_class_proposer:create_custom_proposer": "vllm_config",
    "vllm.v1.metrics.loggers:StatLoggerBase.log_engine_initialized": "",
    "vllm.v1.metrics.loggers:StatLoggerBase.record": "scheduler_stats iteration_stats",
    "vllm.v1.metrics.ray_wrappers:RayPrometheusStatLogger": "vllm_config",
    "ray:init": (
        "address num_cpus object_store_memory include_dashboard logging_level log_to_driver"
    ),
    "ray:serve.start": "proxy_location logging_config",
    "ray._private.accelerators:get_accelerator_manager_for_resource": "resource_name",
    "ray._private.accelerators.accelerator:"
    "AcceleratorManager.get_current_node_num_accelerators": "",
    "ray._private.accelerators.accelerator:"
    "AcceleratorManager.get_current_process_visible_accelerator_ids": "",
    "ray._private.authentication:"
    "authentication_token_setup.maybe_enable_token_auth_if_token_available": "warn_if_disabled",
    "ray._private.node:Node.kill_all_processes": "check_alive allow_graceful",
    "ray.serve._private.common:DeploymentID": "name app_name",
    "ray.serve._private.long_poll:LongPollClient": (
        "host_actor key_listeners call_in_event_loop client_id"
    ),
    "ray.serve._private.long_poll:LongPollClient.stop": "",
    "ray.serve.context:_get_global_client": "",
}
"""What is called, and the parameters that it must have, in this order."""

READ = {
    "vllm.exceptions:VLLMClientError": "",
    "vllm.inputs:TokensPrompt": "prompt_token_ids cache_salt",
    "vllm.config:CacheConfig": "block_size cache_dtype",
    "vllm.config:ModelConfig": "dtype",
    "vllm.config:ModelConfig.use_mla": "",
    "vllm.config:VllmConfig": (
        "speculative_config additional_config parallel_config model_config cache_config"
    ),
    "vllm.config:ParallelConfig": "worker_cls",
    "vllm.config.observability:ObservabilityConfig": "per_request_spec_decode_metrics",
    "vllm.outputs:CompletionOutput": (
        "index token_ids finish_reason stop_reason spec_decode_metrics"
    ),
    "vllm.platforms:current_platform": "",
    "vllm.utils.torch_utils:PIN_MEMORY": "",
    "vllm.v1.sample:rejection_sampler": "expand_batch_to_tokens _rejection_greedy_sample",
    "vllm.v1.sample.metadata:SamplingMetadata": "all_random",
    "vllm.outputs:PoolingRequestOutput.__init__": "prompt_token_ids finished",
    "vllm.outputs:RequestOutput.__init__": (
        "request_id prompt_token_ids outputs finished metrics num_cached_tokens"
    ),
    "vllm.sampling_params:SamplingParams": (
        "n seed temperature max_tokens min_tokens presence_penalty frequency_penalty bad_words "
        "structured_outputs repetition_detection thinking_token_budget watermarking logprobs "
        "logprob_token_ids prompt_logprobs prompt_logprob_token_ids logit_bias min_p "
        "repetition_penalty allowed_token_ids extra_args"
    ),
    "vllm.usage.usage_lib:UsageContext": "OPENAI_API_SERVER",
    "vllm.v1.engine:FinishReason": "ERROR",
    "vllm.v1.engine:EngineCoreRequest": (
        "request_id prompt_token_ids sampling_params external_req_id"
    ),
    "vllm.v1.core.sched.output:SchedulerOutput": (
        "finished_req_ids scheduled_spec_decode_tokens total_num_scheduled_tokens"
    ),
    "vllm.v1.metrics.stats:RequestSpecDecodeMetrics": "histogram num_draft_tokens",
    "vllm.v1.outputs:SamplerOutput": "sampled_token_ids",
    "vllm.v1.sample.logits_processor:BUILTIN_LOGITS_PROCESSORS": "",
    "vllm.v1.spec_decode.metadata:SpecDecodeMetadata": (
        "num_draft_tokens target_logits_indices bonus_logits_indices"
    ),
    "vllm.v1.worker.gpu_input_batch:CachedRequestState": (
        "prompt_token_ids prompt_embeds output_token_ids sampling_params block_ids"
    ),
    "vllm.v1.kv_cache_interface:KVCacheConfig": "num_blocks kv_cache_groups",
    "vllm.v1.kv_cache_interface:KVCacheGroupSpec": "kv_cache_spec",
    "vllm.v1.kv_cache_interface:KVCacheSpec": "block_size",
    "vllm.v1.kv_cache_interface:FullAttentionSpec": "",
    "vllm.v1.metrics.stats:RequestStateStats": "scheduled_ts first_token_ts last_token_ts",
    "vllm.v1.metrics.stats:SchedulerStats": (
        "num_running_reqs num_waiting_reqs kv_cache_usage spec_decoding_stats"
    ),
    "vllm.v1.spec_decode.metrics:SpecDecodingStats": (
        "num_drafts num_accepted_tokens_per_pos num_draft_tokens_per_pos"
    ),
    "ray._private:worker": "_global_node",
    "ray.serve._private.common:DeploymentTargetInfo": "running_replicas",
    "ray.serve._private.common:RunningReplicaInfo": "replica_id replica_metadata",
    "ray.serve._private.common:ReplicaID": "unique_id",
    "ray.serve._private.long_poll:LongPollNamespace": "DEPLOYMENT_TARGETS",
    "ray.serve.context:ReplicaContext": "rank",
    "ray.serve.schema:ReplicaRank": "rank",
}
"""What is read, and the fields that it must have."""


def find(name: str) -> Any:
    """Return what `module:qualified.name` is.

    Raises:
        AssertionError: There is no such thing; the message has the name.
    """
    module, _, path = name.partition(":")
    parts = path.split(".")
    try:
        found: Any = __import__(module, fromlist=parts[:1])  # what it names may be a module itself
        for part in parts:
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise AssertionError(f"{name} has gone: {error}") from None
    return found


def fields_of(found: Any) -> set[str]:
    """Name what a module holds, a class's fields or members, or a function's parameters."""
    if inspect.ismodule(found):
        return set(vars(found))
    names = set(getattr(found, "__members__", ())) | set(getattr(found, "__annotations__", ()))
    if inspect.isfunction(found):
        names |= set(inspect.signature(found).parameters)
    return names


@pytest.mark.parametrize("package", VERSIONS)
def test_version(package: str) -> None:
    version: str = importlib.import_module(package).__version__

    assert version.startswith(VERSIONS[package]), (
        f"the adapter was written against {package} {VERSIONS[package]}x: this is {version}"
    )


@pytest.mark.parametrize("name", CALLED)
def test_called(name: str) -> None:
    expected = CALLED[name].split()

    parameters = [one for one in inspect.signature(find(name)).parameters if one in expected]

    assert parameters == expected, f"{name} takes {inspect.signature(find(name))}"


@pytest.mark.parametrize("name", READ)
def test_read(name: str) -> None:
    missing = set(READ[name].split()) - fields_of(find(name))

    assert not missing, f"{name} lacks {', '.join(sorted(missing))}"


def test_attributes_of_the_runner_are_set_where_they_are_read() -> None:
    """No class body names them: they are assigned in constructors."""
    source = {
        "vllm.v1.worker.gpu_model_runner:GPUModelRunner.__init__": (
            "drafter input_batch requests max_model_len use_async_scheduling"
        ),
        "vllm.v1.worker.gpu_model_runner:GPUModelRunner.initialize_kv_cache": "kv_cache_config",
        "vllm.v1.worker.gpu_input_batch:InputBatch.__init__": "logitsprocs sampling_metadata",
        "vllm.v1.spec_decode.metadata:SpecDecodeMetadata.__post_init__": "max_spec_len",
        "vllm.v1.metrics.stats:IterationStats.__init__": (
            "num_preempted_reqs num_generation_tokens time_to_first_tokens_iter "
            "inter_token_latencies_iter"
        ),
        "vllm.v1.engine.input_processor:InputProcessor.__init__": "speculative_config",
        "vllm.v1.engine.async_llm:AsyncLLM.__init__": "input_processor",
    }
    for name, attributes in source.items():
        text = inspect.getsource(find(name))
        missing = [each for each in attributes.split() if f"self.{each}" not in text]
        assert not missing, f"{name} sets no {', '.join(missing)}"


def imports(path: Path) -> Iterator[str]:
    """Yield each `module:name` that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}:{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (f"{alias.name}:" for alias in node.names)


def test_every_import_of_the_adapters_is_tried_here() -> None:
    used = {name for path in ADAPTERS for name in imports(path)}

    tried = tuple(CALLED) + tuple(READ)
    untried = {
        name
        for name in used
        if name.startswith(("vllm", "ray")) and not any(one.startswith(name) for one in tried)
    }

    assert not untried


def test_nobody_else_imports_what_is_private() -> None:
    packages = {marker.parent for marker in ROOT.glob("*/py.typed")}
    offenders = {
        f"{path.relative_to(ROOT)}: {name}"
        for package in packages
        for path in package.rglob("*.py")
        if path not in ADAPTERS
        for name in imports(path)
        if name.startswith(PRIVATE)
    }

    assert not offenders


def test_built_in_logits_processors_are_made_as_we_make_them(vllm_model: ModelSettings) -> None:
    from vllm.v1.sample import logits_processor

    kinds = logits_processor.BUILTIN_LOGITS_PROCESSORS

    assert {kind.__name__ for kind in kinds} == {
        "LogitBiasLogitsProcessor",
        "MinPLogitsProcessor",
        "MinTokensLogitsProcessor",
    }
    for kind in kinds:
        assert len(inspect.signature(kind).parameters) == 3
        assert "speculative_config" not in inspect.getsource(kind)
    assert logits_processor.LOGITSPROCS_GROUP == "vllm.logits_processors"


def test_every_request_that_gained_tokens_is_counted() -> None:
    """As a first token, in a plain step, and with two drafted tokens of which a stop cut one."""
    from vllm.v1.engine import EngineCoreOutput
    from vllm.v1.metrics import stats
    from vllm.v1.spec_decode.metrics import SpecDecodingStats

    from headstart.cluster.adapter import LoadProbe

    probe, drafts = LoadProbe("de"), SpecDecodingStats.new(2)
    step = stats.IterationStats()  # type: ignore[no-untyped-call]
    drafts.observe_draft(2, 2)
    for tokens, is_prefilling in (([5], True), ([6], False), ([7, 8], False)):
        output, known = EngineCoreOutput("a", tokens), stats.RequestStateStats()
        step.update_from_output(output, 1.0, is_prefilling, known, stats.LoRARequestStates(), None)
    probe.step(stats.SchedulerStats(spec_decoding_stats=drafts), step)

    found = probe.speculation().languages["de"]
    assert (found.rows, found.tokens) == (3, 4)
    assert found.sources["model"].accepted == [1, 1]


@pytest.mark.parametrize("num_choices", [1, 3])
def test_core_calls_choices_as_we_think(vllm_model: ModelSettings, num_choices: int) -> None:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.output_processor import RequestOutputCollector
    from vllm.v1.engine.parallel_sampling import ParentRequest

    from headstart.cluster import adapter

    params = SamplingParams(n=num_choices)
    request: Any = SimpleNamespace(request_id="r-1", external_req_id="r", params=params)
    parent = ParentRequest(request)
    named = [parent.get_child_info(index)[0] for index in range(num_choices)]

    queue = RequestOutputCollector(RequestOutputKind.DELTA, "r-1")
    llm: Any = SimpleNamespace(vllm_config=SimpleNamespace(additional_config=None))
    expected = tuple(named) if num_choices > 1 else ("r-1",)
    assert adapter.drafted_ids(llm, queue, params) == expected


@pytest.mark.parametrize(
    ("default", "mode", "is_drafted"),
    [("off", None, False), ("off", "copy", True), ("auto", None, True), ("auto", "off", False)],
)
def test_of_a_request_without_drafts_nothing_is_asked(
    vllm_model: ModelSettings, default: str, mode: str | None, is_drafted: bool
) -> None:
    from vllm import SamplingParams

    from headstart.cluster import adapter

    config = SimpleNamespace(additional_config={PLAN: {"default": default}})
    llm, queue = SimpleNamespace(vllm_config=config), SimpleNamespace(request_id="r-1")
    params = SamplingParams(extra_args=wish_arguments(mode))

    found = adapter.drafted_ids(cast("Any", llm), queue, params)

    assert found == (("r-1",) if is_drafted else ())


@pytest.mark.anyio
async def test_what_is_computed_ahead_is_not_drafted_for(vllm_model: ModelSettings) -> None:
    from headstart.cluster import adapter

    asked: list[Any] = []

    async def generate(_: Any, params: Any, *__: Any, **___: Any) -> AsyncIterator[Any]:
        asked.append(params)
        yield SimpleNamespace(num_cached_tokens=2)

    llm: Any = SimpleNamespace(generate=generate)

    assert await adapter.warm(llm, [1, 2], None, None, "warm") == 2
    assert asked[0].extra_args == {"headstart_speculation": "off"}
