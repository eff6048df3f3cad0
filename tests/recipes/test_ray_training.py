"""Two processes by Ray Train learn what one learns."""

import json
from pathlib import Path

import pytest

from headstart.recipes import consistency
from tests.recipes.tiny_runs import TRAINING, argv_of

pytestmark = [
    pytest.mark.ray,
    pytest.mark.heavy,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:::ray"),
]


def test_two_workers_train_one_model(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="Ray Train is not installed: headstart[recipes-ray]")
    from safetensors.torch import load_file

    data = tmp_path / "answers.jsonl"
    rows = [{"prompt": f"{n}?", "answer": 8 * f"{n} and "} for n in range(16)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    how = {"model": tiny_model, "data": data, "method": "sft", "epochs": 2}
    how |= TRAINING | {"learning_rate": 1e-3, "log_steps": 1}

    # In two pieces, which all workers have to end at the same step.
    both = how | {"workers": 2, "batch": 4, "out": tmp_path / "two"}
    assert consistency.main(argv_of("train", **both, piece_minutes=1e-9)) == 0
    assert not (tmp_path / "two" / "result.json").exists()
    assert consistency.main(argv_of("train", **both)) == 0
    note = json.loads((tmp_path / "two" / "result.json").read_bytes())
    assert (note["steps"], note["samples"]) == (4, 32)
    alone = {"batch": 4, "accumulate": 2, "out": tmp_path / "one"}
    assert consistency.main(argv_of("train", **(how | alone))) == 0

    one, two = (load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two"))
    start = load_file(tiny_model / "model.safetensors")
    assert any((one[name] - start[name]).abs().max() > 1e-3 for name in one)
    for name, weights in one.items():
        assert (weights - two[name]).abs().max() < 1e-5, name
