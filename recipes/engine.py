"""The serving engine in a process of its own: answers in batches, and what they cost.

The process is born with the environment that a replica has, and runs the worker that a replica
runs: tokens a step and tokens a second are those of serving, without HTTP.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from headstart.cluster import launch_adapter
from headstart.cluster.engine_child import Asked, Batch, Done, Wanted
from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import SpeculationSettings
from headstart.recipes.answering import Question
from headstart.recipes.models import device_of
from headstart.stages.errors import SetupError
from headstart.stages.wish import wish_arguments

__all__ = ["Engine"]

Answer = TypeVar("Answer")
_COMMAND = "from headstart.cluster.engine_child import serve; serve()"


class Engine:
    """An engine of ours around a folder of weights.

    Args:
        speculation: How it drafts; None is not at all.
        max_model_len: Longest prompt and answer together; None is the model's own limit.

    Raises:
        SetupError: On entering: it does not start; its last words are in the message.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dtype: str,
        speculation: SpeculationSettings | None = None,
        max_model_len: int | None = None,
    ) -> None:
        is_on_gpu = device_of("auto") == "cuda"
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
        environment = os.environ | launch_adapter.engine_environment(self._model, None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )
        wanted = Wanted(self._model.model_dump_json(), str(self._folder))
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

    def answer(
        self,
        questions: Sequence[Question],
        max_tokens: int,
        mode: str = "off",
        language: str | None = None,
        at_once: int | None = None,
    ) -> Done:
        """Answer prompts.

        Args:
            mode: As a request's `headstart.speculation`.
            language: As a request's `headstart.language`.
            at_once: How many at a time, the next as one ends; None is all of them.

        Raises:
            SetupError: The engine died.
        """
        wish = wish_arguments(mode, language)
        asked = [
            # A seed would leave out drafts: whoever wants them does without.
            Asked(
                each.prompt,
                wish,
                each.temperature,
                each.seed if each.temperature and mode == "off" else None,
            )
            for each in questions
        ]
        return self._ask(Batch(asked, max_tokens, at_once=at_once), Done)

    def _ask(self, question: msgspec.Struct, kind: type[Answer]) -> Answer:
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
