"""Several processes that torch has joined learn what one learns, and stop together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headstart.recipes import consistency
from tests.recipes.tiny_runs import TRAINING, argv_of

pytestmark = pytest.mark.heavy  # five runs of a training, two of them side by side

JOINED = """
import json, os, sys
from pathlib import Path
import torch
from headstart.recipes.consistency_training import run
from headstart.recipes.consistency_options import TrainOptions
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
options = json.loads(sys.argv[1])
run(TrainOptions(**options | {name: Path(options[name]) for name in ("data", "out")}))
torch.distributed.destroy_process_group()
"""


def both(options: dict[str, Any]) -> None:
    """Run two joined processes to their end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    plain = {name: str(v) if isinstance(v, Path) else v for name, v in options.items()}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", JOINED, json.dumps(plain)],
            env=os.environ
            | shared
            | {"MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    try:
        said = [each.communicate(timeout=240)[1].decode(errors="replace") for each in processes]
        assert [each.returncode for each in processes] == [0, 0], [text[-2000:] for text in said]
    finally:
        for each in processes:
            each.kill()
            each.wait()


def test_two_joined_processes_learn_what_one_learns(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    data = tmp_path / "answers.jsonl"
    rows = [{"prompt": f"{n}?", "answer": n * f"{n} and "} for n in range(1, 17)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    how = {"model": str(tiny_model), "data": data, "method": "sft", "epochs": 2.0}
    how |= TRAINING | {"learning_rate": 1e-3, "log_steps": 1, "batch": 4}

    # In two pieces, which both have to end at the same step.
    out = tmp_path / "two"
    both(how | {"out": out, "piece_minutes": 1e-9})
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-1"]
    both(how | {"out": out})
    alone = {"accumulate": 2, "out": tmp_path / "one"}
    assert consistency.main(argv_of("train", **(how | alone))) == 0

    one, two = (load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two"))
    start = load_file(tiny_model / "model.safetensors")
    assert any((one[name] - start[name]).abs().max() > 1e-3 for name in one)
    for name, weights in one.items():
        assert (weights - two[name]).abs().max() < 1e-5, name
    notes = [json.loads((tmp_path / name / "result.json").read_bytes()) for name in ("one", "two")]
    assert notes[0]["tokens"] == notes[1]["tokens"]
    assert notes[1]["samples"] == 32
