"""The workers that draft and have small blocks: a hold on what vLLM does not promise.

Like `adapter`, written against vLLM 0.32 (V1 runners, CPU and GPU) and tried name by name in
`tests/contract/test_adapter.py`. vLLM loads these workers by their path. Nothing is decided here:
what a step gave is put into plain values for `ParallelDrafter`, and its drafts into vLLM's place.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from vllm.distributed import get_tensor_model_parallel_rank
from vllm.platforms import current_platform
from vllm.utils.torch_utils import PIN_MEMORY, is_quantized_kv_cache
from vllm.v1.attention.backend import MultipleOf
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.sample import rejection_sampler
from vllm.v1.sample.logits_processor import BUILTIN_LOGITS_PROCESSORS, LogitsProcessors
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from headstart.cluster.cache_blocks import why_not_small
from headstart.cluster.captured import Captured
from headstart.cluster.parallel_drafter import ParallelDrafter
from headstart.configs.model_settings import CPU_BLOCK_TOKENS, SMALL_CPU_BLOCK_TOKENS
from headstart.stages.crowding import Crowding
from headstart.stages.drafting import Verdict
from headstart.stages.errors import SetupError
from headstart.stages.speculation import RowStep
from headstart.stages.speculation_counts import Speculated
from headstart.stages.speculation_labels import Undrafted
from headstart.stages.wish import Wish

if TYPE_CHECKING or current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as PlatformWorker
else:
    from vllm.v1.worker.gpu_worker import Worker as PlatformWorker

__all__ = ["DraftModelWorker", "ParallelWorker", "PlainWorker", "unsupported"]

_log = logging.getLogger(__name__)
"""Not structlog's: vLLM sets up its processes' logs, and knows these alone."""

_NO_PLACE = -1
"""vLLM's stand-in for a draft, where it wants rows of equal length."""


def unsupported(params: Any) -> Undrafted | None:
    """Return why a request with these sampling parameters goes without drafts; None if it need not.

    What vLLM's rejection sampler does not apply to drafted positions, or what makes the answer
    depend on how many tokens a step yields.
    """
    if params.seed is not None and params.temperature > 0:
        return Undrafted.SEED
    if params.logit_bias:
        return Undrafted.LOGIT_BIAS
    if params.min_p:
        return Undrafted.MIN_P
    if params.thinking_token_budget is not None:
        return Undrafted.THINKING_BUDGET
    return None


def _end(tokens: Sequence[int], params: Any) -> int | None:
    """Return the place of the first token at which the engine ends an answer, if there is one."""
    ends = {params.eos_token_id, *(params.stop_token_ids or ())}
    return next((place for place, token in enumerate(tokens) if token in ends), None)


class PlainWorker(PlatformWorker):
    """vLLM's worker for this platform, of which kind all our workers are.

    On CPU its prefix cache may have blocks of 16 tokens, and seeds hold for prompts of any length.
    """

    def init_device(self) -> None:
        # The engine asks its workers for the blocks' size, so it is not too late to change it.
        if current_platform.is_cpu():
            _settle_blocks(self.vllm_config)
        super().init_device()  # type: ignore[no-untyped-call]  # upstream has no annotations
        runner: Any = self.model_runner
        if current_platform.is_cpu() and isinstance(runner, GPUModelRunner):  # the CPU's is one
            runner.__class__ = type("SeededRunner", (_SeededRunner, type(runner)), {})


def _settle_blocks(config: Any) -> None:
    """Have vLLM take blocks of 16 tokens where its kernel does, and else ask for 32."""
    model, cache = config.model_config, config.cache_config
    if cache.block_size != SMALL_CPU_BLOCK_TOKENS or model.use_mla:  # MLA has 16 by vLLM's choice
        return
    # Not above: on a GPU this module is none that vLLM itself would import.
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend, _get_attn_isa

    def kernel_for(block_size: int) -> str:
        return _get_attn_isa(model.dtype, block_size, model.get_head_size(), cache.cache_dtype)

    reason = why_not_small(kernel_for, is_quantised=is_quantized_kv_cache(cache.cache_dtype))
    if reason is not None:
        cache.block_size = CPU_BLOCK_TOKENS
        _log.warning("blocks of the prefix cache have 32 tokens, not 16: %s", reason)
        return
    takes: Any = CPUAttentionBackend
    takes.get_supported_kernel_block_sizes = staticmethod(_small_sizes)


def _small_sizes(kv_cache_spec: Any = None) -> list[int | MultipleOf]:
    return [MultipleOf(SMALL_CPU_BLOCK_TOKENS)]


class ParallelWorker(PlainWorker):
    """vLLM's worker for this platform, with a model runner that drafts."""

    def init_device(self) -> None:
        super().init_device()
        _adopt(self.model_runner)

    def speculation_counts(self) -> bytes:
        """Return `SpeculationCounts` as MessagePack; nothing where another rank drafts.

        Called from the engine's front end.
        """
        drafter: Any = getattr(self.model_runner, "drafter", None)
        return b"" if drafter is None else msgspec.msgpack.encode(drafter.counts)

    def drafted_for(self, requests: list[str]) -> bytes:
        """Return what was drafted for these requests together, as `speculation_counts` does."""
        drafter: Any = getattr(self.model_runner, "drafter", None)
        if drafter is None:
            return b""
        found = reduce(Speculated.plus, map(drafter.drafted_for, requests), Speculated())
        return msgspec.msgpack.encode(found)


class DraftModelWorker(PlainWorker):
    """vLLM's worker for this platform, in which a model drafts."""

    def init_device(self) -> None:
        super().init_device()
        _mend_sampler(self.model_runner)


def _mend_sampler(runner: Any) -> None:
    """On CPU, have drafted tokens drawn at their request's temperature."""
    if runner.device.type == "cpu":
        rejection_sampler.expand_batch_to_tokens = _expanded


def _adopt(runner: Any) -> None:
    """Make a model runner one of ours.

    Raises:
        SetupError: It is of a kind that has no place for us.
    """
    if not isinstance(runner, GPUModelRunner) or runner.use_async_scheduling:
        raise SetupError(
            "speculation needs vLLM's V1 model runner without asynchronous scheduling: remove "
            "what asks for another from engine_args"
        )
    if not hasattr(runner, "drafter"):
        return  # of the ranks that share the layers only the last one samples, and drafts
    runner.__class__ = type("ParallelRunner", (_ParallelRunner, type(runner)), {})
    _mend_sampler(runner)
    # Where it speculates, vLLM builds no processor for min_p and logit_bias. Others would see the
    # rows without drafts alone.
    runner.input_batch.logitsprocs = LogitsProcessors(
        kind(runner.vllm_config, runner.device, PIN_MEMORY) for kind in BUILTIN_LOGITS_PROCESSORS
    )


def _expanded(
    x: torch.Tensor,
    cu_num_tokens: torch.Tensor,
    num_tokens: int,
    replace_from: int = 0,
    replace_to: int = 0,
) -> torch.Tensor:
    """Repeat each request's value for each of its drafted tokens.

    In place of `expand_batch_to_tokens`, whose CPU kernel writes into a copy: temperatures, top-k
    and top-p of drafted tokens are then whatever was in memory.
    """
    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1))
    values = torch.where(x == replace_from, replace_to, x)
    return values.repeat_interleave(counts, output_size=num_tokens)


def _by_position(metadata: Any, likeliest: torch.Tensor, bonus: torch.Tensor) -> torch.Tensor:
    """Put what the rejection sampler was told into the order of the logits."""
    found = likeliest.new_empty(len(likeliest) + len(bonus))
    found[metadata.target_logits_indices] = likeliest
    found[metadata.bonus_logits_indices] = bonus.flatten().to(found.dtype)
    return found


@contextmanager
def _told() -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Hear what the rejection sampler finds likeliest, while it samples.

    Yields:
        Once it has sampled, the likeliest token at each drafted position, and a row of one token
        for each request: what comes behind its whole draft. Nothing where no request is greedy.
    """
    told: list[tuple[torch.Tensor, torch.Tensor]] = []
    kernel = rejection_sampler._rejection_greedy_sample  # noqa: SLF001 - it keeps them to itself

    def heard(output: Any, ends: Any, drafted: Any, likeliest: Any, bonus: Any, *rest: Any) -> Any:
        told.append((likeliest, bonus))
        return kernel(output, ends, drafted, likeliest, bonus, *rest)

    rejection_sampler._rejection_greedy_sample = heard  # noqa: SLF001
    try:
        yield told
    finally:
        rejection_sampler._rejection_greedy_sample = kernel  # noqa: SLF001


class _SeededRunner:
    """What of a V1 model runner is different on CPU: mixed in before its class."""

    input_batch: Any
    discard_request_mask: Any

    def sample_tokens(self, grammar_output: Any) -> Any:
        """Sample, and draw nothing from the seeds of requests that are in their prompt yet.

        vLLM draws for them too, and takes it back by the generator's offset, which one on CPU does
        not have: a seeded prompt of two pieces ended the engine.
        """
        seeded = self.input_batch.generators
        in_prompt = self.discard_request_mask.np[: self.input_batch.num_reqs].nonzero()[0]
        held = {at: seeded.pop(at) for at in in_prompt.tolist() if at in seeded}
        try:
            return super().sample_tokens(grammar_output)  # type: ignore[misc]
        finally:
            seeded.update(held)


class _ParallelRunner:
    """What of a V1 model runner is different: mixed in before its class.

    A step is `execute_model`, then `_sample`, then `propose_draft_token_ids`.
    """

    drafter: ParallelDrafter
    input_batch: Any
    requests: dict[str, Any]
    max_model_len: int
    kv_cache_config: Any
    _began = 0.0
    _captured: Captured | None = None
    _crowding: Crowding | None = None
    _predictions: dict[str, list[int]]
    _broken: frozenset[str]

    def execute_model(self, scheduler_output: Any, *args: Any, **options: Any) -> Any:
        self._began = time.perf_counter()
        self._captured = None
        for request in scheduler_output.finished_req_ids:
            self.drafter.end(request)
        return super().execute_model(scheduler_output, *args, **options)  # type: ignore[misc]

    def _sample(self, logits: Any, spec_decode_metadata: Any) -> Any:
        if spec_decode_metadata is None or not spec_decode_metadata.max_spec_len:
            # The plain sampler: one row a request, as always.
            return super()._sample(logits, None)  # type: ignore[misc]
        num_drafted = spec_decode_metadata.num_draft_tokens
        is_watched = [
            drafted > 0 and self.drafter.wants_predictions(request)
            for request, drafted in zip(self.input_batch.req_ids, num_drafted, strict=True)
        ]
        is_told = not self.input_batch.sampling_metadata.all_random
        captured = self._captured = Captured(logits, num_drafted, is_watched, is_told=is_told)
        with _told() as told:
            output = super()._sample(logits, spec_decode_metadata)  # type: ignore[misc]
        if any(is_watched):
            for likeliest, bonus in told:
                captured.take(_by_position(spec_decode_metadata, likeliest, bonus))
        captured.cut(output.sampled_token_ids)
        return output

    def _input_fits_in_drafter(self, _: Any) -> bool:
        return True  # each row has its own room; vLLM would draft zeros for all of them

    def propose_draft_token_ids(
        self, scheduler_output: Any, sampled_token_ids: list[list[int]], *_: Any
    ) -> list[list[int]]:
        if get_tensor_model_parallel_rank():
            # The engine takes the first rank's drafts: others would learn from what is not theirs.
            return [[] for _ in sampled_token_ids]
        try:
            return self._propose(scheduler_output, sampled_token_ids)
        except Exception as error:  # no answer depends on what is drafted
            self.drafter.fail(error)
            return [[] for _ in sampled_token_ids]

    def _propose(
        self, scheduler_output: Any, sampled_token_ids: list[list[int]]
    ) -> list[list[int]]:
        began = time.perf_counter()
        self._read()
        self._look_at_cache(scheduler_output.total_num_scheduled_tokens)
        rows = [
            self._row(request, tokens, scheduler_output)
            for request, tokens in zip(self.input_batch.req_ids, sampled_token_ids, strict=True)
            if tokens
        ]
        decoded = sum(1 + len(row.verdict.drafted) for row in rows)
        found = iter(
            self.drafter.step(
                rows,
                seconds=began - self._began,
                num_prompt_tokens=scheduler_output.total_num_scheduled_tokens - decoded,
            )
        )
        drafts = [next(found) if tokens else [] for tokens in sampled_token_ids]
        self.drafter.spent(time.perf_counter() - began)
        return drafts

    def _read(self) -> None:
        """Take what was captured: the engine has waited for the step's tokens by now."""
        read = [] if self._captured is None else self._captured.read()
        pairs = list(zip(self.input_batch.req_ids, read, strict=False))
        self._broken = frozenset(request for request, (is_broken, _) in pairs if is_broken)
        self._predictions = {request: found for request, (_, found) in pairs}

    def _look_at_cache(self, num_tokens: int) -> None:
        """Learn how full it is; who is preempted counts as if they held what they had."""
        specs = [group.kv_cache_spec for group in self.kv_cache_config.kv_cache_groups]
        # Of windows and states the worker is not told which blocks are free again.
        kept = [at for at, spec in enumerate(specs) if isinstance(spec, FullAttentionSpec)]
        if not kept:
            return
        if self._crowding is None:
            size = min(specs[at].block_size for at in kept)
            # The first block is nobody's.
            num_blocks = self.kv_cache_config.num_blocks - 1
            self._crowding = Crowding(num_blocks, size, self.drafter.max_tokens)
        held = [[state.block_ids[at] for at in kept] for state in self.requests.values()]
        self._crowding.step(held, num_tokens)

    def _row(self, request: str, tokens: list[int], scheduler_output: Any) -> RowStep:
        state = self.requests[request]
        params, num_tokens = state.sampling_params, state.num_tokens
        drafted = scheduler_output.scheduled_spec_decode_tokens.get(request, ())
        if _NO_PLACE in drafted:
            drafted = ()
        room = self.max_model_len - num_tokens - 1
        if params.max_tokens is not None:
            room = min(room, params.max_tokens - len(state.output_token_ids) - 1)
        if (needed := params.min_tokens - len(state.output_token_ids)) > 0:
            # Behind a draft vLLM forbids to stop as if the draft had not been: it must be right.
            room = min(room, needed - 1)
        if self.drafter.num_tokens(request) != num_tokens - len(tokens):
            self._begin(request, state, num_tokens - len(tokens), room)
        predictions = self._predictions.get(request, ()) if drafted else ()
        if (end := _end(tokens, params)) is not None:
            # The engine, whose list this is, would drop the rest, and count it as accepted.
            del tokens[end + 1 :]
            room = 0
        verdict = Verdict(tokens, drafted, predictions)
        if self._crowding is not None:
            room = self._crowding.room(num_tokens, room)
        return RowStep(request, verdict, room, request in self._broken)

    def _begin(self, request: str, state: Any, num_tokens: int, room: int) -> None:
        wish = Wish.of(state.sampling_params.extra_args, self.drafter.default)
        if state.prompt_token_ids is None or state.prompt_embeds is not None:
            self.drafter.begin(request, [0] * num_tokens, wish, Undrafted.NO_TOKENS, room)
            return
        tokens = [*state.prompt_token_ids, *state.output_token_ids][:num_tokens]
        self.drafter.begin(request, tokens, wish, unsupported(state.sampling_params), room)
