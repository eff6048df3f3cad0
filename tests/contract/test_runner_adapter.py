"""What our runner makes of vLLM's: rows, what is sampled, and the blocks of its cache.

Without an engine: of vLLM there is what a step would bring.
"""

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

import pytest

from headstart.configs.model_settings import ModelSettings

pytestmark = pytest.mark.usefixtures("quiet_imports")


def test_row_has_no_room_beyond_its_block_where_the_cache_is_full(
    vllm_model: ModelSettings,
) -> None:
    from vllm import SamplingParams
    from vllm.v1.kv_cache_interface import FullAttentionSpec

    from headstart.cluster.runner_adapter import _ParallelRunner

    runner = _ParallelRunner()
    runner._predictions, runner._broken, runner.max_model_len = {}, frozenset(), 100
    runner.drafter = Mock(default="auto", max_tokens=8)
    runner.drafter.num_tokens.return_value = 18
    window = SimpleNamespace(kv_cache_spec=SimpleNamespace(block_size=8))
    whole = SimpleNamespace(kv_cache_spec=Mock(spec=FullAttentionSpec, block_size=16))
    runner.kv_cache_config = SimpleNamespace(num_blocks=7, kv_cache_groups=[window, whole])
    params = SamplingParams(max_tokens=None)
    state = SimpleNamespace(sampling_params=params, num_tokens=19, output_token_ids=[4])
    runner.requests = {"a": state}
    step = SimpleNamespace(scheduled_spec_decode_tokens={})
    rooms = []
    for block_ids in ([1, 2], [1, 2, 3, 4, 5]):
        state.block_ids = [list(range(1, 40)), block_ids]
        runner._look_at_cache(1)
        rooms.append(runner._row("a", [4], step).room)

    assert rooms == [80, 13]


def test_row_has_no_room_for_drafts_behind_which_it_may_stop(vllm_model: ModelSettings) -> None:
    from vllm import SamplingParams

    from headstart.cluster.runner_adapter import _ParallelRunner

    runner = _ParallelRunner()
    runner._predictions, runner._broken, runner.max_model_len = {}, frozenset(), 100
    runner.drafter, runner.requests = Mock(default="auto", max_tokens=8), {}
    runner.drafter.num_tokens.return_value = 18
    step = SimpleNamespace(scheduled_spec_decode_tokens={})
    rooms = []
    for num_answered in (7, 8, 9, 10):
        runner.requests["a"] = SimpleNamespace(
            sampling_params=SamplingParams(max_tokens=None, min_tokens=10),
            num_tokens=19,
            output_token_ids=[1] * num_answered,
        )
        rooms.append(runner._row("a", [4], step).room)

    assert rooms == [2, 1, 0, 80]


def test_row_ends_where_the_engine_ends_the_answer(vllm_model: ModelSettings) -> None:
    """Which would count what was accepted behind that, and drop it."""
    from vllm import SamplingParams

    from headstart.cluster.runner_adapter import _ParallelRunner

    runner = _ParallelRunner()
    runner._predictions, runner._broken, runner.max_model_len = {}, frozenset(), 100
    runner.drafter = Mock(default="auto", max_tokens=8)
    runner.drafter.num_tokens.return_value = 16
    step = SimpleNamespace(scheduled_spec_decode_tokens={"a": [4, 5, 6]})
    found = []
    for stop_token_ids, ignore_eos in (([], False), ([5], False), ([5], True), ([], True)):
        params = SamplingParams(stop_token_ids=stop_token_ids, ignore_eos=ignore_eos)
        params.update_from_generation_config({}, eos_token_id=6)
        state = SimpleNamespace(sampling_params=params, num_tokens=20, output_token_ids=[1] * 4)
        runner.requests = {"a": state}
        tokens = [4, 5, 6, 7]
        row = runner._row("a", tokens, step)
        assert row.verdict.tokens == tokens
        found.append((tokens, row.verdict.num_accepted, row.room > 0))

    assert found == [
        ([4, 5, 6], 2, False),
        ([4, 5], 1, False),
        ([4, 5], 1, False),
        ([4, 5, 6, 7], 3, True),
    ]


def test_fault_beside_the_controller_ends_no_step(vllm_model: ModelSettings) -> None:
    from headstart.cluster import runner_adapter

    runner = runner_adapter._ParallelRunner()
    runner.drafter = Mock()
    runner.input_batch = SimpleNamespace(req_ids=["unknown"])
    runner.requests = {}
    runner.kv_cache_config = SimpleNamespace(kv_cache_groups=[])

    step = SimpleNamespace(total_num_scheduled_tokens=1)
    with patch.object(runner_adapter, "get_tensor_model_parallel_rank", return_value=0):
        assert runner.propose_draft_token_ids(step, [[4]]) == [[]]
    assert isinstance(runner.drafter.fail.call_args.args[0], KeyError)


def test_request_is_taken_up_with_the_room_that_it_has(vllm_model: ModelSettings) -> None:
    from vllm import SamplingParams

    from headstart.cluster.runner_adapter import _ParallelRunner

    begun: list[tuple[Any, ...]] = []
    drafter: Any = SimpleNamespace(
        num_tokens=lambda _: None, begin=lambda *arguments: begun.append(arguments), default="auto"
    )
    runner = _ParallelRunner()
    runner._predictions, runner._broken = {}, frozenset()
    runner.drafter, runner.max_model_len = drafter, 100
    step = SimpleNamespace(scheduled_spec_decode_tokens={})
    for limit in (1, 2, 9, None):
        state = SimpleNamespace(
            sampling_params=SamplingParams(max_tokens=limit),
            prompt_token_ids=[1, 2, 3],
            prompt_embeds=None,
            output_token_ids=[4],
            num_tokens=4,
        )
        runner.requests = {"a": state}
        runner._row("a", [4], step)

    assert [tokens for _, tokens, *_ in begun] == [[1, 2, 3]] * 4
    assert [room for *_, room in begun] == [-1, 0, 7, 95]


def test_sampler_sees_drafts_and_what_is_broken_is_taken_back(vllm_model: ModelSettings) -> None:
    """Two requests: one verifies two drafted tokens, the logits behind the first of them broken."""
    import torch

    from headstart.cluster.runner_adapter import _ParallelRunner

    sampled = torch.tensor([[3, -1, -1], [4, 5, 6]], dtype=torch.int32)

    class Base:
        def _sample(self, logits: Any, metadata: Any) -> Any:
            logits.zero_()  # in place, as the real ones
            seen.append(metadata)
            return SimpleNamespace(sampled_token_ids=sampled)

    seen: list[Any] = []
    runner: Any = type("Runner", (_ParallelRunner, Base), {})()
    sampling = SimpleNamespace(all_random=True)
    runner.input_batch = SimpleNamespace(req_ids=["plain", "drafted"], sampling_metadata=sampling)
    runner.drafter = SimpleNamespace(wants_predictions=lambda request: request == "drafted")
    logits = torch.eye(4, 9)
    logits[2:] = float("nan")
    metadata = SimpleNamespace(max_spec_len=2, num_draft_tokens=[0, 2])

    runner._sample(torch.eye(2, 9), None)
    runner._sample(torch.eye(2, 9), SimpleNamespace(max_spec_len=0, num_draft_tokens=[0, 0]))
    runner._read()
    assert (runner._broken, runner._predictions) == (set(), {})
    runner._sample(logits, metadata)
    runner._read()

    assert seen == [None, None, metadata]
    assert sampled.tolist() == [[3, -1, -1], [4, -1, -1]]
    assert runner._broken == {"drafted"}
    assert runner._predictions["plain"] == []
    assert len(runner._predictions["drafted"]) == 3


def test_predictions_are_what_the_rejection_sampler_found_itself(
    vllm_model: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real one: three drafted tokens of a request between two that draft nothing."""
    import torch
    from vllm.v1.sample import rejection_sampler

    from headstart.cluster.runner_adapter import _ParallelRunner

    def kernel(output: torch.Tensor, *_: Any) -> None:
        output.fill_(5)

    class Base:
        def _sample(self, logits: Any, metadata: Any) -> Any:
            bonus = logits[metadata.bonus_logits_indices].argmax(dim=-1, keepdim=True)
            sampled = rejection_sampler.rejection_sample(
                metadata.draft_token_ids,
                metadata.num_draft_tokens,
                metadata.max_spec_len,
                metadata.cu_num_draft_tokens,
                None,
                logits[metadata.target_logits_indices],
                bonus,
                runner.input_batch.sampling_metadata,
            )
            return SimpleNamespace(sampled_token_ids=sampled)

    runner: Any = type("Runner", (_ParallelRunner, Base), {})()
    sampling = SimpleNamespace(all_greedy=True, all_random=False)
    runner.input_batch = SimpleNamespace(req_ids=["a", "b", "c"], sampling_metadata=sampling)
    runner.drafter = SimpleNamespace(wants_predictions=lambda _: True)
    monkeypatch.setattr(rejection_sampler, "_rejection_greedy_sample", kernel)
    metadata = SimpleNamespace(
        max_spec_len=3,
        num_draft_tokens=[0, 3, 0],
        cu_num_draft_tokens=torch.tensor([0, 3, 3], dtype=torch.int32),
        draft_token_ids=torch.tensor([1, 7, 3], dtype=torch.int32),
        target_logits_indices=torch.tensor([1, 2, 3], dtype=torch.int32),
        bonus_logits_indices=torch.tensor([0, 4, 5], dtype=torch.int32),
    )

    output = runner._sample(torch.eye(6, 9), metadata)
    runner._read()

    assert output.sampled_token_ids.tolist() == [[5] * 4] * 3
    assert runner._predictions == {"a": [], "b": [1, 2, 3, 4], "c": []}
    assert rejection_sampler._rejection_greedy_sample is kernel


def test_ranks_but_the_first_draft_nothing(
    vllm_model: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.cluster import runner_adapter

    monkeypatch.setattr(runner_adapter, "get_tensor_model_parallel_rank", lambda: 1)
    runner = runner_adapter._ParallelRunner()  # without a drafter that could be asked

    assert runner.propose_draft_token_ids(None, [[1, 2], [], [3]]) == [[], [], []]


def test_values_of_requests_are_repeated_for_their_drafts(vllm_model: ModelSettings) -> None:
    import torch

    from headstart.cluster.runner_adapter import _expanded

    ends = torch.tensor([2, 2, 5], dtype=torch.int32)

    temperatures = _expanded(torch.tensor([0.5, 0.7, 0.0]), ends, 5, replace_from=0, replace_to=1)

    assert temperatures.tolist() == [0.5, 0.5, 1.0, 1.0, 1.0]
    assert temperatures.dtype == torch.float32
    top_k = _expanded(torch.tensor([7, 8, 9], dtype=torch.int32), ends, 5)
    assert (top_k.tolist(), top_k.dtype) == ([7, 7, 9, 9, 9], torch.int32)


def blocks_of(**asked: Any) -> Any:
    """A worker's configuration, as far as the blocks depend on it."""
    import torch

    model = SimpleNamespace(
        dtype=asked.get("dtype", torch.float32),
        use_mla=asked.get("use_mla", False),
        get_head_size=lambda: asked.get("head_size", 64),
    )
    cache = SimpleNamespace(
        block_size=asked.get("block_size", 16), cache_dtype=asked.get("cache_dtype", "auto")
    )
    return SimpleNamespace(model_config=model, cache_config=cache)


@pytest.fixture
def kernel_sizes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """What vLLM says that its attention takes, put back at the end."""
    cpu_attn = importlib.import_module("vllm.v1.attention.backends.cpu_attn")
    backend = cpu_attn.CPUAttentionBackend
    name = "get_supported_kernel_block_sizes"
    monkeypatch.setattr(backend, name, vars(backend)[name])
    return lambda: [size.base for size in getattr(backend, name)()]


def test_vllm_itself_has_no_blocks_of_16(kernel_sizes: Callable[[], list[Any]]) -> None:
    assert kernel_sizes() == [32], "vLLM's choice has changed: read _settle_blocks again"


def test_small_blocks_are_taken_where_the_kernel_has_them(
    kernel_sizes: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.cluster import runner_adapter

    cpu_attn = importlib.import_module("vllm.v1.attention.backends.cpu_attn")
    monkeypatch.setattr(cpu_attn.torch.cpu, "_is_amx_tile_supported", lambda: False)
    config = blocks_of()

    runner_adapter._settle_blocks(config)

    assert config.cache_config.block_size == 16
    assert kernel_sizes() == [16]


@pytest.mark.parametrize(
    ("asked", "left"),
    [({"dtype": "bfloat16"}, 32), ({"cache_dtype": "fp8"}, 32), ({"use_mla": True}, 16)],
)
def test_small_blocks_are_left_where_the_kernel_lacks_them(
    asked: dict[str, Any],
    left: int,
    kernel_sizes: Callable[[], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from headstart.cluster import runner_adapter

    cpu_attn = importlib.import_module("vllm.v1.attention.backends.cpu_attn")
    monkeypatch.setattr(cpu_attn.torch.cpu, "_is_amx_tile_supported", lambda: True)
    if "dtype" in asked:
        asked = {"dtype": getattr(cpu_attn.torch, asked["dtype"])}
    config = blocks_of(**asked)

    runner_adapter._settle_blocks(config)

    assert config.cache_config.block_size == left
    assert kernel_sizes() == [32]


def test_larger_blocks_are_left_alone(kernel_sizes: Callable[[], list[Any]]) -> None:
    from headstart.cluster import runner_adapter

    config = blocks_of(block_size=64)

    runner_adapter._settle_blocks(config)

    assert config.cache_config.block_size == 64
    assert kernel_sizes() == [32]
