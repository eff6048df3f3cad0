"""A LoRA adapter with random weights, for the small real model."""

import json
from pathlib import Path

import numpy as np

__all__ = ["RANK", "write_lora"]

RANK = 4


def write_lora(folder: Path, model: Path, seed: int = 0, scale: float = 0.3) -> Path:
    """Write an adapter of every layer's query and value projections.

    Args:
        folder: Made for it.
        model: The model's folder.
        scale: Standard deviation of the weights: large enough to change what the model says.
    """
    from safetensors.numpy import save_file

    config = json.loads((model / "config.json").read_text())
    width, size = config["hidden_size"], config["head_dim"]
    outputs = {
        "q_proj": config["num_attention_heads"] * size,
        "v_proj": config["num_key_value_heads"] * size,
    }
    random = np.random.default_rng(seed)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for name, output in outputs.items():
            base = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            for part, shape in (("A", (RANK, width)), ("B", (output, RANK))):
                drawn = random.normal(0, scale, shape).astype(np.float32)
                weights[f"{base}.lora_{part}.weight"] = drawn
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    adapter = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model),
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": list(outputs),
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    return folder
