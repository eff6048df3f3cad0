"""What a run has learned as a small adapter: whole, checked, and served with its block length."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headstart.cluster.parallel_drafter import plan_of
from headstart.configs.speculation import SpeculationSettings
from headstart.recipes import models
from headstart.stages.errors import SetupError
from tests.recipes.tiny_runs import DECODING, LORA, NUM_PROMPTS, TRAINING, Step

pytestmark = [
    pytest.mark.filterwarnings("ignore:::torch", "ignore:::accelerate", "ignore:::peft"),
    pytest.mark.usefixtures("one_thread"),
]


def test_all_weights_become_an_adapter_of_low_rank(
    taught: Path, data: Path, tmp_path: Path, step: Step
) -> None:
    step("train", model=taught, data=data, out=tmp_path / "run", epochs=4, **TRAINING)

    made = step(
        "export", run=tmp_path / "run", out=tmp_path / "adapter", name="tiny-jf", max_bytes=60_000
    )

    assert made["bytes"] <= 60_000
    assert made["rank"] > 4
    assert 0.5 < made["energy_kept"] <= 1.0
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "block_tokens: 8" in card.split("---")[1]
    training = json.loads((tmp_path / "adapter" / "training.json").read_text())
    assert training["samples"] == 4 * NUM_PROMPTS
    assert training["tokens_before"] == 0
    assert str(tmp_path) not in json.dumps(
        training | {"options": {**training["options"], "model": ""}}
    )


def test_an_export_that_is_interrupted_leaves_what_was_there(
    taught: Path, data: Path, tmp_path: Path, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    step("train", model=taught, data=data, out=tmp_path / "run", lora_rank=2, **TRAINING)
    made = {"run": tmp_path / "run", "out": tmp_path / "adapter"}
    step("export", name="first", **made)
    before = {file.name: file.read_bytes() for file in (tmp_path / "adapter").iterdir()}

    def full(weights: Any, path: Path, **_: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", full)
        with pytest.raises(SetupError, match="cannot be written"):
            step("export", name="second", **made)
    assert {file.name: file.read_bytes() for file in (tmp_path / "adapter").iterdir()} == before
    assert not (tmp_path / "adapter.partial").exists()
    with pytest.raises(SetupError, match="may have"):
        step("export", name="third", max_bytes=100, **made)
    step("export", name="fourth", **made)
    assert "# fourth" in (tmp_path / "adapter" / "README.md").read_text()


def test_an_adapter_is_merged_into_what_transformers_and_the_server_load(
    taught: Path, data: Path, tmp_path: Path, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(models, "_cache_dir", lambda: tmp_path / "cache")
    lora = TRAINING | {"lora_rank": 4, "learning_rate": 3e-3, "epochs": 10}
    step("train", model=taught, data=data, out=tmp_path / "run", **lora)
    made = step("export", run=tmp_path / "run", out=tmp_path / "adapter", name="tiny", merge=True)

    folder = Path(made["merged"])
    assert plan_of(SpeculationSettings(), folder)["block_tokens"] == 8
    merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(taught, dtype=torch.float32)
    ids = torch.arange(2, 40)[None]
    with torch.inference_mode():
        plain = base(ids).logits
        beside = PeftModel.from_pretrained(base, tmp_path / "adapter")(ids).logits
        found = merged(ids).logits
    torch.testing.assert_close(found, beside, rtol=1e-4, atol=1e-4)
    assert (found - plain).abs().max() > 0.1
    # A second round goes on from the adapter.
    more = tmp_path / "more"
    begun = {"model": taught, "adapter": tmp_path / "adapter"}
    prompts = tmp_path / "again.txt"
    prompts.write_text("A\nB\nC\n")
    step("collect", **begun, prompts=prompts, out=more, **(DECODING | {"block_tokens": 16}))
    step("train", **begun, data=more, out=tmp_path / "second", **(lora | {"epochs": 2}))
    step("export", run=tmp_path / "second", out=tmp_path / "further", name="tiny-further")
    before, after = (
        json.loads((tmp_path / name / "training.json").read_text())
        for name in ("adapter", "further")
    )
    assert before["begun_from"]["options"]["method"] == "sft"  # which taught the model its answers
    assert before["tokens_before"] == 0
    assert after["begun_from"] == before
    assert after["tokens_before"] == before["tokens"] > 0
    card = (tmp_path / "further/README.md").read_text()
    assert f"| begun from | jacobi-forcing, {before['samples']} samples |" in card


@pytest.fixture
def elsewhere(taught: Path, data: Path, tmp_path: Path, step: Step) -> Path:
    """A run of a machine where the model and its data had other places."""
    run = tmp_path / "run"
    step("train", model=taught, data=data, out=run, epochs=2, **LORA)
    note = json.loads((run / "result.json").read_text())
    note["options"] |= {"model": "./weights", "data": "carry/data", "out": "/there/run"}
    (run / "result.json").write_text(json.dumps(note))
    return run


def test_a_run_of_another_machine_is_exported_and_merged_here(
    elsewhere: Path,
    taught: Path,
    tiny_model: Path,
    tmp_path: Path,
    step: Step,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models, "_cache_dir", lambda: tmp_path / "cache")
    made = {"run": elsewhere, "out": tmp_path / "adapter", "name": "tiny"}
    with pytest.raises(SetupError, match=r"There is no model at '\./weights'"):
        step("export", **made)
    with pytest.raises(SetupError, match="trained from other weights than"):
        step("export", model=tiny_model, **made)

    step("export", model=taught, **made)

    adapter = tmp_path / "adapter"
    written = "".join(file.read_text() for file in adapter.iterdir() if "safe" not in file.name)
    assert "./weights" not in written
    assert str(tmp_path) not in written.replace(str(taught), "")
    folder = models.folder_of(str(taught), adapter)
    # Where cards of models are not shipped, the block length is.
    (folder / "README.md").unlink()
    assert plan_of(SpeculationSettings(), folder)["block_tokens"] == 8
    with pytest.raises(SetupError, match="beside other weights than those of"):
        models.folder_of(str(tiny_model), adapter)
    # The same weights in another layout of files are the same.
    again = tmp_path / "again"
    shutil.copytree(taught, again)
    relaid(again)
    assert models.folder_of(str(again), adapter).is_dir()


def relaid(folder: Path) -> None:
    """Write a model's weights once more, as two files and in float32."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    for number, some in enumerate((names[:5], names[5:])):
        part = {name: weights[name].float() for name in some}
        save_file(part, folder / f"model-{number}.safetensors", metadata={"format": "pt"})


def test_prompts_that_were_trained_on_are_no_test(
    taught: Path, data: Path, prompts: Path, tmp_path: Path, step: Step
) -> None:
    run, adapter, base = (tmp_path / name for name in ("run", "adapter", "base"))
    shutil.copytree(taught, base)
    (base / "trained_on.json").unlink()
    step("train", model=base, data=data, out=run, **LORA)
    step("export", run=run, out=adapter, name="tiny")
    asked: dict[str, Any] = {"model": base, "adapter": adapter, "out": tmp_path / "x", **DECODING}
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(prompts.read_text().splitlines()[3] + '\n{"prompt": "another"}\n')

    with pytest.raises(SetupError, match="adapter was trained on 1 of 2 prompts"):
        step("evaluate", prompts=mixed, **asked)
    # However the same weights are named, and what is trained from them.
    merged = models.folder_of(str(base), adapter)
    for named in ({"model": merged}, {"model": base, "tuned": merged}, {"model": adapter}):
        with pytest.raises(SetupError, match="was trained on 1 of 2 prompts"):
            step("evaluate", prompts=mixed, out=tmp_path / "y", **DECODING, **named)
    again = tmp_path / "again.jsonl"
    again.write_text('{"prompt": "another", "answer": "x"}\n')
    further = tmp_path / "further"
    step("train", model=merged, data=again, out=further, **(LORA | {"method": "sft"}))
    result = json.loads((further / "result.json").read_text())
    assert result["begun_from"] == json.loads((adapter / "training.json").read_text())
    with pytest.raises(SetupError, match="adapter was trained on 2 of 2 prompts"):
        step("evaluate", prompts=mixed, **(asked | {"adapter": further / "adapter"}))
