"""What every test may ask for: a tiny real model, made here, and the programs of a full machine."""

import os
import shutil
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from headstart.benchmarks import chromium

# Two busy cores make any single example slow now and then; the test's own time limit stands.
hypothesis.settings.register_profile("headstart", deadline=None)
hypothesis.settings.load_profile("headstart")

WIDTH, LAYERS, HEADS, CONTEXT = 64, 2, 2, 512


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let engines of two workers run side by side: each waits busily for all cores it sees."""
    parser.addoption(
        "--core-each", action="store_true", help="give each worker of xdist a core of its own"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Give this worker its core, and with it all that it starts."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and config.getoption("--core-each"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a program that this machine lacks."""
    if item.get_closest_marker("prometheus") is not None:
        for program in ("prometheus", "promtool"):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed: apt-get install prometheus")
    if item.get_closest_marker("chromium") is not None and chromium.program() is None:
        pytest.skip("chromium is not installed: apt-get install chromium")


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of two layers and random weights, with a tokenizer of bytes and a chat template.

    Its heads are as small as vLLM's CPU attention takes them.
    """
    from gguf import GGUFWriter, TokenType
    from tokenizers.pre_tokenizers import ByteLevel

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tokens = ["<|end|>", "<|start|>", *sorted(ByteLevel.alphabet()), "th", "the"]
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * 2 + [TokenType.NORMAL] * (len(tokens) - 2))
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_chat_template(
        "{% for m in messages %}<|start|>{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
    )
    random = np.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), WIDTH), "output_norm": (WIDTH,)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.{name}": shape
            for name, shape in {
                "attn_norm": (WIDTH,),
                "attn_q": (WIDTH, WIDTH),
                "attn_k": (WIDTH, WIDTH),
                "attn_v": (WIDTH, WIDTH),
                "attn_output": (WIDTH, WIDTH),
                "ffn_norm": (WIDTH,),
                "ffn_gate": (2 * WIDTH, WIDTH),
                "ffn_up": (2 * WIDTH, WIDTH),
                "ffn_down": (WIDTH, 2 * WIDTH),
            }.items()
        }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(0, 0.1, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_gguf` as the folder an engine loads. Not to be modified."""
    from headstart.cluster.model_source import resolve

    return resolve(str(tiny_gguf), tmp_path_factory.mktemp("models"))
