"""Settings of one served model and its engine.

Only what a user may choose: how a replica applies them is `headstart.cluster`'s business.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, StringConstraints, field_validator, model_validator

from headstart.configs.section import Section, wrong
from headstart.configs.speculation import DrafterSettings, Language, SpeculationSettings

__all__ = ["DelayedStage", "FakeEngineSettings", "ModelSettings", "core_list", "parse_cores"]

CPU_BLOCK_TOKENS = 32
"""vLLM's CPU attention takes multiples of this only (`cpu_attn.py:65`)."""
SMALL_CPU_BLOCK_TOKENS = 16
"""Ours besides, where its kernel for this processor and model has them (docs/adr/0012)."""
GPU_BLOCK_TOKENS = 16

TYPED_ARGUMENTS = {
    "model": "source",
    "served_model_name": "name",
    "block_size": "block_size",
    "dtype": "dtype",
    "max_model_len": "max_model_len",
    "lora_modules": "adapters",
}
"""vLLM's arguments that have a setting of their own: one way to say each thing."""

PARALLEL_ARGUMENTS = ("tensor_parallel_size", "pipeline_parallel_size")
"""vLLM's arguments that multiply the workers of one engine."""

LOGGING_ARGUMENTS = ("enable_log_requests", "enable_log_outputs", "log_error_stack")
"""vLLM's arguments that write prompts, answers or errors that quote them to its log."""

_SET = "it sets this"
SPECULATION_ARGUMENTS = {
    "speculative_config": _SET,
    "worker_cls": _SET,
    "additional_config": _SET,
    "data_parallel_size": "have more `replicas`",
}
"""vLLM's arguments that do not go with `speculation`, and why not, or what to do instead. With
parallel data vLLM drops its plan of drafts, and fills up requests that begin with drafts of nothing
(docs/adr/0008)."""

Argument = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")]
DelayedStage = Literal["tokenise", "queue", "prefill", "decode", "detokenise", "frame"]
"""The stages of a request that pass inside an engine, as the stage clock names them."""


class FakeEngineSettings(Section):
    """Speeds of the deterministic engine that tests and benches use."""

    time_to_first_token_s: float = Field(
        default=0.05, ge=0, description="Seconds before the first token, on top of prefill."
    )
    tokens_per_s: float = Field(
        default=50.0,
        ge=0,
        description="Decoding speed of each stream, tokens per second; 0 is unthrottled.",
    )
    prefill_tokens_per_s: float = Field(
        default=0.0, ge=0, description="Prefill speed, prompt tokens per second; 0 is instant."
    )
    tokens_per_step: int = Field(
        default=1, ge=1, le=64, description="Tokens that one engine step yields."
    )
    answer_tokens: int = Field(
        default=64,
        ge=1,
        description="Length of an answer in tokens where the request sets no limit.",
    )
    seed: int = Field(default=0, ge=0, description="Same seed and prompt, same answer.")
    stage_delays_s: dict[DelayedStage, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="Seconds by which each request is held up in a stage (`tokenise`, `queue`, "
        "`prefill`, `decode`, `detokenise`, `frame`), to test what measures stages. An answer of "
        "one token has no `decode`.",
    )


def _block_size(values: dict[str, object]) -> int:
    return GPU_BLOCK_TOKENS if values.get("gpus_per_replica") else CPU_BLOCK_TOKENS


def _fake(values: dict[str, object]) -> FakeEngineSettings | None:
    return FakeEngineSettings() if values.get("engine") == "fake" else None


class ModelSettings(Section):
    """One entry of `models`."""

    name: Label = Field(
        description="Name that requests give as `model`: lower-case letters, digits, `.`, `_` and "
        "`-`, at most 63."
    )
    source: str = Field(
        default="",
        description="Where the weights are: `builtin:smollm2-135m-instruct`, or "
        "`builtin:smollm2-135m-sql-fast`, which is tuned for Jacobi steps; a Hugging Face id, a "
        "folder (that of a LoRA adapter is merged into its base), or a `.gguf` file. The fake "
        "engine needs none.",
    )
    engine: Literal["vllm", "fake"] = Field(
        default="vllm", description="`fake` makes up answers at set speeds, for tests and benches."
    )
    replicas: int = Field(
        default=1, ge=1, le=64, description="Copies of the model that share its requests."
    )
    pool: str = Field(
        default="",
        description="Which of its pools of replicas is meant, a language of "
        "`speculation.drafters`; set by the daemon for each of them.",
    )
    languages: tuple[Language, ...] = Field(
        default=(),
        description="Language tags (BCP 47) of the input that this model is meant for: metrics of "
        "speculation tell them apart. Routing does not use them yet.",
    )
    cores: tuple[str, ...] | None = Field(
        default=None,
        description='CPU cores of each replica, one list a replica: `["0-3", "4-7"]`; with tensor '
        "parallelism one list a rank, joined by `|`. Unset: vLLM chooses, the same for every "
        "replica.",
    )
    gpus_per_replica: float = Field(
        default=0.0, ge=0, description="GPUs of each replica: a share below 1, or a whole number."
    )
    num_cpus_per_replica: float = Field(
        default=0.0,
        ge=0,
        description="CPUs that Ray reserves for each replica; binding is `cores`.",
    )
    kv_cache_gib: int = Field(
        default=1,
        ge=1,
        description="KV cache of each replica on CPU, GiB. On GPU set "
        "`engine_args.gpu_memory_utilization`.",
    )
    block_size: int = Field(
        default_factory=_block_size,
        ge=1,
        description="Tokens in a block of the prefix cache; on CPU 16 or multiples of 32. "
        "16 is 32 on processors whose kernel lacks it (the log says so). "
        "Unset: 32 on CPU, 16 on GPU.",
    )
    max_model_len: int | None = Field(
        default=None,
        ge=1,
        description="Longest prompt plus answer in tokens. Unset: the model's own limit.",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="Number format of the weights; `auto` is the model's own."
    )
    adapters: dict[Label, str] = Field(
        default_factory=dict,
        description="LoRA adapters, served beside the model under names of their own: name to "
        "folder (`adapter_config.json` and its weights).",
    )
    engine_args: dict[Argument, JsonValue] = Field(
        default_factory=dict,
        description="Further `vllm serve` arguments, with underscores; vLLM checks them at start. "
        "Printed as they are: no secrets.",
    )
    max_thoughts: int = Field(
        default=2,
        ge=1,
        description="Most thoughts about live prompts (docs/live.md) that a replica makes at once; "
        "further ones wait.",
    )
    speculation: SpeculationSettings | None = Field(
        default=None,
        description="Several exact tokens a step. Unset: vLLM as it comes, unless the model card "
        "has a block length. Needs `engine: vllm`.",
    )
    fake: FakeEngineSettings | None = Field(
        default_factory=_fake, description="The fake engine's speeds; only with `engine: fake`."
    )

    @property
    def has_small_blocks(self) -> bool:
        """Whether it asks for blocks that vLLM has no choice of on CPU."""
        return not self.gpus_per_replica and self.block_size == SMALL_CPU_BLOCK_TOKENS

    @property
    def served_names(self) -> tuple[str, ...]:
        """Every name that requests may give as `model` to reach this one's replicas."""
        return (self.name, *self.adapters)

    @property
    def pools(self) -> "tuple[ModelSettings, ...]":
        """The model as each of its pools of replicas runs it, the one without a drafter first."""
        drafters = {} if self.speculation is None else self.speculation.drafters
        return (
            self,
            *(
                self.model_copy(
                    update={"pool": pool, "replicas": each.replicas, "cores": each.cores}
                )
                for pool, each in drafters.items()
            ),
        )

    @property
    def sources(self) -> tuple[tuple[str, bool], ...]:
        """Everything whose weights it needs, itself and what drafts for it; and whether it is a
        head on another's hidden states."""
        drafters = {} if self.speculation is None else self.speculation.drafters
        return ((self.source, False), *((each.source, each.is_head) for each in drafters.values()))

    @property
    def drafter(self) -> DrafterSettings | None:
        """What drafts in this pool; None where our own worker does."""
        return self.speculation.drafters[self.pool] if self.speculation and self.pool else None

    @property
    def drafted_languages(self) -> tuple[str, ...]:
        """Languages of the input that its speculation tells apart, in order."""
        if self.speculation is None:
            return tuple(sorted(self.languages))  # the model card may turn it on
        own = (self.languages, self.speculation.tables, self.speculation.drafters)
        return tuple(sorted({language for each in own for language in each}))

    @field_validator("cores")
    @classmethod
    def _cores_are_lists(cls, cores: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for text in cores or ():
            parse_cores(text)
        return cores

    @field_validator("gpus_per_replica")
    @classmethod
    def _gpus_are_whole_above_one(cls, gpus: float) -> float:
        if gpus > 1 and not gpus.is_integer():
            raise ValueError("above 1 only whole GPUs are allowed")
        return gpus

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.engine == "vllm" and not self.source:
            raise wrong("source", "is required with `engine: vllm`")
        if (self.engine == "fake") != (self.fake is not None):
            raise wrong("fake", "goes with `engine: fake`, and only with it")
        self._check_cores("cores", self.cores, self.replicas)
        self._check_pools()
        if self.engine == "fake" and self.adapters:
            raise wrong("adapters", "goes with `engine: vllm`")
        if self.engine == "fake" and self.speculation is not None:
            raise wrong("speculation", "goes with `engine: vllm`")
        for argument, why in SPECULATION_ARGUMENTS.items() if self.speculation is not None else ():
            if argument in self.engine_args:
                reason = f"cannot be set along with `speculation`: {why}"
                raise wrong(f"engine_args.{argument}", reason)
        for argument in self.engine_args:
            if argument in TYPED_ARGUMENTS:
                raise wrong(
                    f"engine_args.{argument}",
                    f"set `{TYPED_ARGUMENTS[argument]}` of the model instead",
                )
            if argument in LOGGING_ARGUMENTS:
                raise wrong(f"engine_args.{argument}", "would put what users write into the logs")
        self._check_ranks()
        self._check_blocks()
        return self

    def _check_blocks(self) -> None:
        if self.has_small_blocks:
            if "worker_cls" in self.engine_args:
                raise wrong(
                    "engine_args.worker_cls",
                    f"cannot be set along with `block_size: {SMALL_CPU_BLOCK_TOKENS}` on CPU",
                )
        elif not self.gpus_per_replica and self.block_size % CPU_BLOCK_TOKENS:
            raise wrong(
                "block_size",
                f"must be {SMALL_CPU_BLOCK_TOKENS} or a multiple of {CPU_BLOCK_TOKENS} on CPU",
            )

    @staticmethod
    def _check_cores(key: str, cores: tuple[str, ...] | None, replicas: int) -> None:
        if cores is not None and len(cores) != replicas:
            raise wrong(key, f"must have one core list per replica: {replicas}, not {len(cores)}")

    def _check_pools(self) -> None:
        drafters = {} if self.speculation is None else self.speculation.drafters
        if self.pool and self.pool not in drafters:
            raise wrong("pool", "must be a language of `speculation.drafters`")
        if drafters and self.adapters:
            raise wrong("adapters", "cannot be served along with `speculation.drafters`")
        for language, drafter in drafters.items():
            key = f"speculation.drafters.{language}.cores"
            self._check_cores(key, drafter.cores, drafter.replicas)
            for text in drafter.cores or ():
                try:
                    parse_cores(text)
                except ValueError as error:
                    raise wrong(key, str(error)) from error

    @property
    def num_ranks(self) -> int:
        """Workers of one engine: tensor times pipeline parallel size."""
        return math.prod(int(str(self.engine_args.get(name, 1))) for name in PARALLEL_ARGUMENTS)

    def _check_ranks(self) -> None:
        """Each rank has a GPU, or a core list, of its own."""
        for name in PARALLEL_ARGUMENTS:
            size = self.engine_args.get(name, 1)
            if type(size) is not int or size < 1:
                raise wrong(f"engine_args.{name}", "must be a positive whole number")
        ranks = self.num_ranks
        if self.gpus_per_replica and ranks != max(1.0, self.gpus_per_replica):
            raise wrong(
                "gpus_per_replica",
                f"must be the number of ranks, {ranks} (engine_args.tensor_parallel_size times "
                f"pipeline_parallel_size), not {self.gpus_per_replica:g}",
            )
        for index, text in enumerate(self.cores or ()):
            if not self.gpus_per_replica and (lists := text.count("|") + 1) != ranks:
                raise wrong(
                    f"cores.{index}",
                    f"must have one core list per rank, joined by `|`: {ranks}, not {lists}",
                )


def parse_cores(text: str) -> frozenset[int]:
    """Return the cores in a list such as `0-2,5` or, for several ranks, `0-1|2-3`.

    Raises:
        ValueError: It is none, or names a core twice.
    """
    cores: list[int] = []
    for part in text.replace("|", ",").split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() or not dash)):
            raise ValueError(f"{text!r} is not a core list such as '1', '0-3' or '0-2,5'")
        span = range(int(first), int(last or first) + 1)
        if not 0 < len(span) <= 4096:
            raise ValueError(f"{text!r} holds an empty or endless range")
        cores.extend(span)
    if len(set(cores)) < len(cores):
        raise ValueError(f"{text!r} names a core twice")
    return frozenset(cores)


def core_list(cores: frozenset[int]) -> str:
    """Return a set of cores as `parse_cores` reads it."""
    parts: list[list[int]] = []
    for core in sorted(cores):
        if parts and parts[-1][-1] == core - 1:
            parts[-1] = [parts[-1][0], core]
        else:
            parts.append([core])
    return ",".join("-".join(map(str, part)) for part in parts)
