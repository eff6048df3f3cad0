"""The serving engine in a process of its own: greedy answers in batches, and what they cost.

The process is born with the environment that a replica has, and runs the worker that a replica
runs: tokens a step and tokens a second are those of serving, without HTTP.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from headstart.cluster import adapter
from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import SpeculationSettings
from headstart.recipes.models import device_of
from headstart.stages.errors import SetupError
from headstart.stages.speculation_counts import SpeculationCounts

__all__ = ["Done", "Engine", "serve_child"]

_COMMAND = "from headstart.recipes.engine import serve_child; serve_child()"


class _Wanted(msgspec.Struct):
    model: str
    """`ModelSettings` as JSON."""
    path: str


class _Batch(msgspec.Struct):
    prompts: list[list[int]]
    max_tokens: int
    mode: str
    """As a request's `headstart.speculation`."""


class Done(msgspec.Struct):
    """What became of a batch."""

    answers: list[list[int]]
    decode_s: list[float]
    """Of each answer, from its first token to its last."""
    counts: SpeculationCounts | None = None
    """Of the batch alone, where the engine speculates."""


class Engine:
    """An engine of ours around a folder of weights.

    Args:
        block_tokens: Speculates by Jacobi steps of this length where set.
        is_adaptive: Whether the engine drafts only what pays.
        max_model_len: Longest prompt and answer together; None is the model's own limit.

    Raises:
        SetupError: On entering: it does not start; its last words are in the message.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dtype: str,
        block_tokens: int | None = None,
        is_adaptive: bool = False,
        max_model_len: int | None = None,
    ) -> None:
        is_on_gpu = device_of("auto") == "cuda"
        speculation = None
        if block_tokens is not None:
            speculation = SpeculationSettings(
                block_tokens=block_tokens,
                max_tokens=min(64, block_tokens - 1),
                is_adaptive=is_adaptive,
            )
        self._model = ModelSettings(
            name="recipe",
            source=str(folder),
            dtype="float32" if dtype == "float32" else "bfloat16",
            max_model_len=max_model_len,
            gpus_per_replica=float(is_on_gpu),
            # Compiling takes a CPU minutes and makes it no faster; graphs are what a GPU lives by.
            engine_args={"enforce_eager": not is_on_gpu, "enable_prefix_caching": False},
            speculation=speculation,
        )
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the engine

    def __enter__(self) -> Self:
        environment = os.environ | adapter.engine_environment(self._model, None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )
        wanted = _Wanted(self._model.model_dump_json(), str(self._folder))
        try:
            self._ask(wanted, str)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def answer(self, prompts: Sequence[list[int]], max_tokens: int, mode: str = "off") -> Done:
        """Answer prompts greedily, all of them at once.

        Raises:
            SetupError: The engine died.
        """
        done: Done = self._ask(_Batch(list(prompts), max_tokens, mode), Done)
        return done

    def _ask(self, question: Any, kind: Any) -> Any:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(msgspec.json.encode(question) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the end of its output says why
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            last = self._log.read()[-2000:].decode(errors="replace")
            raise SetupError(f"the engine ended:\n{last}")
        return msgspec.json.decode(line, type=kind)


def serve_child() -> None:
    """In the engine's process: load, then answer a line for a line until the input ends."""
    wanted = msgspec.json.decode(sys.stdin.readline(), type=_Wanted)
    # Whoever prints, in the engine's own process too, prints to the log.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        asyncio.run(_serve(wanted, answers))


async def _serve(wanted: _Wanted, answers: Any) -> None:
    from headstart.cluster.vllm_tap import TappedLLM

    def say(value: Any) -> None:
        answers.write(msgspec.json.encode(value) + b"\n")
        answers.flush()

    model = ModelSettings.model_validate_json(wanted.model)
    llm = adapter.build_llm(TappedLLM, adapter.engine_arguments(model, wanted.path), [])
    try:
        say("")
        before = SpeculationCounts()
        while line := await asyncio.to_thread(sys.stdin.readline):
            done = await _answer(llm, msgspec.json.decode(line, type=_Batch))
            if model.speculation is not None:
                counts = await adapter.speculation_counts(llm)
                done.counts, before = counts.since(before), counts
            say(done)
    finally:
        llm.shutdown()


async def _answer(llm: Any, batch: _Batch) -> Done:
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    async def one(number: int) -> tuple[list[int], float]:
        params = SamplingParams(
            temperature=0,
            max_tokens=batch.max_tokens,
            extra_args={"headstart_speculation": batch.mode},
        )
        first = 0.0
        answer: list[int] = []
        prompt = TokensPrompt(prompt_token_ids=batch.prompts[number])
        async for output in llm.generate(prompt, params, f"{time.monotonic()}-{number}"):
            first = first or time.monotonic()
            answer = list(output.outputs[0].token_ids)
        return answer, time.monotonic() - first

    found = await asyncio.gather(*map(one, range(len(batch.prompts))))
    return Done([answer for answer, _ in found], [seconds for _, seconds in found])
