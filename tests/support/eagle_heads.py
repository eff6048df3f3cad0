"""EAGLE heads of random weights, in the form in which such heads are published."""

import json
from pathlib import Path

METHODS = ("eagle", "eagle3")
KNOWN = 64
"""Tokens that the head of EAGLE-3 can draft: it is trimmed."""


def head_of(target: Path, method: str, folder: Path) -> Path:
    """Write a head for a small Llama; it has no tokenizer."""
    import torch
    from safetensors.torch import save_file

    told = json.loads((target / "config.json").read_bytes())
    size, inner = told["hidden_size"], told["intermediate_size"]
    head_size = told.get("head_dim") or size // told["num_attention_heads"]
    queries, keys = told["num_attention_heads"], told["num_key_value_heads"]
    read, layer = (size, "layers.0") if method == "eagle" else (2 * size, "midlayer")
    torch.manual_seed(0)
    weights = {
        f"{layer}.self_attn.q_proj.weight": torch.randn(queries * head_size, read),
        f"{layer}.self_attn.k_proj.weight": torch.randn(keys * head_size, read),
        f"{layer}.self_attn.v_proj.weight": torch.randn(keys * head_size, read),
        f"{layer}.self_attn.o_proj.weight": torch.randn(size, queries * head_size),
        f"{layer}.mlp.gate_proj.weight": torch.randn(inner, size),
        f"{layer}.mlp.up_proj.weight": torch.randn(inner, size),
        f"{layer}.mlp.down_proj.weight": torch.randn(size, inner),
        "fc.weight": torch.randn(size, 2 * size),
    }
    weights = {name: 0.02 * each for name, each in weights.items()}
    weights[f"{layer}.post_attention_layernorm.weight"] = torch.ones(size)
    told |= {"num_hidden_layers": 1, "architectures": ["LlamaForCausalLM"], "dtype": "float32"}
    if method == "eagle3":
        told |= {"architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": KNOWN}
        told["eagle_config"] = {"eagle_aux_hidden_state_layer_ids": [0, 1]}
        weights |= {f"{layer}.{name}.weight": torch.ones(size) for name in _NORMS}
        weights |= {"norm.weight": torch.ones(size), "lm_head.weight": torch.randn(KNOWN, size)}
        # A token that it knows is so much further on in the model's vocabulary.
        weights["d2t"] = torch.full((KNOWN,), 3)
        weights["t2d"] = torch.zeros(told["vocab_size"], dtype=torch.bool)
        weights["t2d"][3 : 3 + KNOWN] = True
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(told))
    return folder


_NORMS = ("input_layernorm", "hidden_norm")
