"""LoRA adapters: what vLLM is told of them, and which folders are refused."""

import json
from pathlib import Path

import pytest

from headstart.cluster import launch_adapter
from headstart.cluster.model_folder import lora_rank
from headstart.configs.model_settings import ModelSettings
from headstart.stages.errors import SetupError
from tests.support.lora import RANK, write_lora


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return write_lora(tmp_path / "tuned", tiny_model)


def model(**adapters: Path) -> ModelSettings:
    named = {name: str(folder) for name, folder in adapters.items()}
    return ModelSettings(name="base", source="builtin:x", adapters=named)


def test_model_without_adapters_is_told_of_none() -> None:
    assert "lora" not in " ".join(launch_adapter.engine_argv(model(), "path"))


def test_vllm_reads_the_adapters(folder: Path) -> None:
    argv = launch_adapter.engine_argv(model(one=folder, two=folder), "path")

    assert {"--enable-lora", "--max-loras=2", "--max-lora-rank=8"} <= set(argv)
    modules = [json.loads(word) for word in argv[argv.index("--lora-modules") + 1 :]]
    assert modules == [{"name": name, "path": str(folder)} for name in ("one", "two")]


def test_rank(folder: Path) -> None:
    assert lora_rank(str(folder)) == RANK


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_folder_that_lacks_a_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()

    with pytest.raises(SetupError, match=f"lacks {name}"):
        lora_rank(str(folder))


def test_truncated_weights_are_refused(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])

    with pytest.raises(SetupError, match="truncated"):
        lora_rank(str(folder))


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no LoRA adapter at"):
        lora_rank(str(tmp_path / "nothing"))
