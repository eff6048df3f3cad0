"""What is trained in which arithmetic, and what is watched meanwhile."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headstart.recipes.models import fingerprint
from headstart.stages.errors import SetupError
from tests.recipes.tiny_runs import LORA, NUM_PROMPTS, TRAINING, Step

pytestmark = [
    pytest.mark.filterwarnings("ignore:::torch", "ignore:::accelerate", "ignore:::peft"),
    pytest.mark.usefixtures("one_thread"),
]


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(next(folder.glob("*.safetensors"))))


@pytest.fixture
def more(data: Path, tmp_path: Path) -> Path:
    """Enough samples for some to be set aside."""
    folder = tmp_path / "more"
    shutil.copytree(data, folder)
    rows = [json.loads(line) for line in (data / "samples.jsonl").read_text().splitlines()]
    many = [row | {"id": row["id"] + NUM_PROMPTS * n} for n in range(4) for row in rows]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in many))
    card = json.loads((data / "card.json").read_text()) | {"samples": len(many)}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def test_losses_of_what_is_set_aside_are_told_at_each_checkpoint(
    taught: Path, more: Path, tmp_path: Path, step: Step
) -> None:
    begun = {"model": taught, "data": more, "out": tmp_path / "run", "save_minutes": 0, **LORA}

    paused = step("train", epochs=2, piece_minutes=1e-9, **begun)
    note = step("train", epochs=2, **begun)

    assert paused["is_paused"]
    assert set(paused["held_out"]) == {"samples", "consistency", "autoregressive"}
    assert note["planned"] == 2 * (4 * NUM_PROMPTS - 2)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    looks = [line["held_out_consistency"] for line in lines if "held_out_consistency" in line]
    assert len(looks) == note["steps"]
    assert len(set(looks)) == len(looks)
    assert note["held_out"]["consistency"] == looks[-1]


def test_a_run_that_diverges_ends_with_its_checkpoints(
    taught: Path, more: Path, tmp_path: Path, step: Step
) -> None:
    wild = LORA | {"learning_rate": 0.05, "save_minutes": 0, "warm_up": 4, "epochs": 20}

    with pytest.raises(SetupError, match="on samples that are not trained on was"):
        step("train", model=taught, data=more, out=tmp_path / "run", **wild)

    assert list((tmp_path / "run").glob("checkpoint-*"))
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_disk_without_room_for_what_is_kept_is_refused_at_once(
    taught: Path, data: Path, tmp_path: Path, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = {"model": taught, "data": data, "out": tmp_path / "run", "epochs": 8}
    trained = step("train", dry_run=True, **begun, **TRAINING)["trained_parameters"]
    free = SimpleNamespace(free=5 * 12 * trained)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)

    step("train", dry_run=True, **begun, **TRAINING)
    # Two, what is kept as samples double from 12 to 96, and where the rate begins to fall.
    with pytest.raises(SetupError, match="7 checkpoints and the result take"):
        step("train", milestone=NUM_PROMPTS, **begun, **TRAINING)


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_bfloat16_learns_what_float32_does(
    taught: Path, data: Path, tmp_path: Path, step: Step, lora_rank: int
) -> None:
    how = LORA | {"lora_rank": lora_rank, "epochs": 4, "learning_rate": 1e-3}
    ends = {}
    for dtype in ("float32", "bfloat16"):
        out = tmp_path / dtype
        step("train", model=taught, data=data, out=out, **(how | {"dtype": dtype}))
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        ends[dtype] = [line["loss"] for line in lines if "loss" in line]

    assert len(ends["bfloat16"]) == 4
    assert all(map(math.isfinite, ends["bfloat16"]))
    assert ends["bfloat16"] == pytest.approx(ends["float32"], rel=0.05)
    result = weights(tmp_path / "bfloat16" / ("adapter" if lora_rank else "model"))
    kept = weights(tmp_path / "bfloat16" / "checkpoint-4")
    assert {str(each.dtype) for each in kept.values()} == {"torch.float32"}
    meant = "torch.float32" if lora_rank else "torch.bfloat16"
    assert {str(each.dtype) for each in result.values()} == {meant}


def in_bfloat16(model: Path, data: Path, into: Path) -> tuple[Path, Path]:
    """A model's weights in the format that models come in, and data that is its own."""
    import torch
    from safetensors.torch import save_file

    half, same = into / "half", into / "same"
    shutil.copytree(model, half)
    few = {name: each.to(torch.bfloat16) for name, each in weights(model).items()}
    save_file(few, half / "model.safetensors", metadata={"format": "pt"})
    shutil.copytree(data, same)
    card = json.loads((data / "card.json").read_text()) | {"weights": fingerprint(half)}
    (same / "card.json").write_text(json.dumps(card))
    return half, same


def test_all_weights_are_exported_as_they_were_trained_and_not_as_they_were_rounded(
    taught: Path, data: Path, tmp_path: Path, step: Step
) -> None:
    half, same = in_bfloat16(taught, data, tmp_path)
    how = TRAINING | {"dtype": "bfloat16", "epochs": 4, "learning_rate": 1e-5}
    step("train", model=half, data=same, out=tmp_path / "run", **how)

    made = step("export", run=tmp_path / "run", out=tmp_path / "adapter", name="tiny", rank=64)

    name = "model.layers.0.mlp.up_proj"
    base, trained = (weights(f)[f"{name}.weight"].float() for f in (half, tmp_path / "run/model"))
    exact = weights(tmp_path / "run" / "checkpoint-4")[f"{name}.weight"]
    learned = weights(tmp_path / "adapter")
    layer = f"base_model.model.{name}"
    added = learned[f"{layer}.lora_B.weight"].float() @ learned[f"{layer}.lora_A.weight"].float()
    assert made["energy_kept"] > 0.99
    assert (added - (exact - base)).norm() < 0.02 * (exact - base).norm()
    # Rounded by chance, the sum of many small changes is kept; to the nearest, most were none.
    assert (trained - base).norm() > 2 * (exact - base).norm()
    kept = ((trained - base) * (exact - base)).sum() / (exact - base).square().sum()
    assert 0.8 < kept < 1.2
