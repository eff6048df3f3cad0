"""The small real model of the laptop profile."""

from pathlib import Path

import pytest

from headstart.cluster.model_source import resolve
from headstart.configs.fields import default_cache_dir
from headstart.stages.errors import SetupError

__all__ = ["SOURCE", "real_model"]

SOURCE = "builtin:smollm2-135m-instruct"


def real_model() -> Path:
    """Return the model's folder; skip the test where it, or the engine for it, cannot be had."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    try:
        return resolve(SOURCE, default_cache_dir())
    except SetupError as error:
        pytest.skip(error.message)
