"""Merged weights in the server's engine: the text is that of transformers."""

from pathlib import Path

import pytest

from headstart.cluster.merged_model import merged, rounded
from headstart.cluster.model_source import is_here, resolve
from headstart.configs.speculation import SpeculationSettings
from headstart.recipes.answering import Question, greedy
from headstart.recipes.engine import Engine
from headstart.recipes.models import Chat, load
from headstart.stages.errors import SetupError
from tests.support.lora import write_lora
from tests.support.real_model import real_model

QUESTIONS = ("How many legs have two cats?", "Name three colours.", "Why is the sky blue?")


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_merged_weights_say_the_same_in_the_engine_and_in_transformers(tmp_path: Path) -> None:
    base = real_model()
    adapter = write_lora(tmp_path / "adapter", base, scale=0.02)
    folder = merged(base, adapter, tmp_path / "cache")
    chat = Chat.of(folder)
    prompts = [chat.prompt([{"role": "user", "content": text}]) for text in QUESTIONS]
    asked = [Question(prompt) for prompt in prompts]
    speculation = SpeculationSettings(block_tokens=8, max_tokens=7, is_adaptive=False)

    meant = greedy(load(folder, "cpu", "float32"), chat, prompts, 24)
    with Engine(folder, dtype="float32", speculation=speculation, max_model_len=512) as engine:
        plain = engine.answer(asked, 24)
        jacobi = engine.answer(asked, 24, "jacobi")

    assert plain.answers == jacobi.answers == meant
    assert jacobi.counts is not None
    assert jacobi.counts.rows < jacobi.counts.tokens
    assert all(seconds > 0 for seconds in plain.decode_s)


@pytest.mark.engine
def test_an_engine_that_cannot_start_says_why(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    (tmp_path / "config.json").write_text("{}")

    with (
        pytest.raises(SetupError, match="the engine ended"),
        Engine(tmp_path, dtype="float32"),
    ):
        pass


def test_rounding_keeps_on_average_what_is_less_than_a_step() -> None:
    import torch

    exact = torch.full((4000,), 1.0 + 2**-10)  # an eighth of a step of bfloat16

    found = rounded(exact, torch.bfloat16, "a name").float()

    assert set(found.tolist()) == {1.0, 1.0 + 2**-7}
    assert float(found.mean() - 1) == pytest.approx(2**-10, rel=0.15)
    assert torch.equal(found, rounded(exact, torch.bfloat16, "a name").float())
    kept = torch.tensor([0.5, -3.0, 0.0])
    assert torch.equal(rounded(kept, torch.bfloat16, "x"), kept.bfloat16())
    assert torch.equal(rounded(exact, torch.float32, "x"), exact)


def test_a_merged_model_is_made_once_and_whole(tiny_model: Path, tmp_path: Path) -> None:
    adapter = tiny_adapter(tiny_model, tmp_path)
    cache = tmp_path / "cache"
    folder = merged(tiny_model, adapter, cache)
    (folder / "mark").touch()

    assert merged(tiny_model, adapter, cache) == folder
    assert (folder / "mark").exists()
    (adapter / "README.md").write_text("---\nheadstart: {block_tokens: 8}\n---\n")
    other = merged(tiny_model, adapter, cache)
    assert other != folder
    assert "block_tokens" in (other / "README.md").read_text()
    assert not list(cache.glob("*.partial"))
    # As a model's source in the settings.
    assert resolve(str(adapter), cache) == other
    assert is_here(str(adapter), cache)


def test_an_adapter_that_is_damaged_or_of_another_model_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    adapter = tiny_adapter(tiny_model, tmp_path)
    weights = adapter / "adapter_model.safetensors"
    whole = weights.read_bytes()
    tensors = load_file(weights)

    def refused(match: str) -> None:
        with pytest.raises(SetupError, match=match):
            merged(tiny_model, adapter, tmp_path / "cache")

    weights.write_bytes(whole[:-10])
    refused("truncated or damaged")
    save_file(
        {name.replace("layers.1", "layers.7"): each for name, each in tensors.items()}, weights
    )
    refused("another model")
    save_file({name: each[:, :-1].clone() for name, each in tensors.items()}, weights)
    refused("another model|damaged")
    save_file(tensors | {"base_model.model.lm_head.weight": tensors[min(tensors)].clone()}, weights)
    refused("no plain LoRA")
    for field in ('"use_dora": true', '"alpha_pattern": {"q_proj": 4}'):
        (adapter / "adapter_config.json").write_text(f'{{"peft_type": "LORA", {field}}}')
        refused("no plain LoRA")
    (adapter / "adapter_config.json").write_text("{")
    refused("no LoRA adapter")
    assert not list((tmp_path / "cache").glob("*.partial"))


def tiny_adapter(model: Path, folder: Path) -> Path:
    """An adapter of two layers' projections, as peft writes it."""
    import json

    import torch
    from safetensors.torch import save_file

    width, rank = 64, 2
    weights = {}
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = torch.randn(rank, width)
        weights[f"{name}.lora_B.weight"] = torch.randn(width, rank)
    adapter = folder / "adapter"
    adapter.mkdir()
    save_file(weights, adapter / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 4,
        "base_model_name_or_path": str(model),
    }
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    return adapter
