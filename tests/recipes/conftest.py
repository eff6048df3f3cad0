"""What tests of several recipes need."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.tiny_runs import DECODING, NUM_PROMPTS, TRAINING, Step, argv_of


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Models so small are slower on several, and far slower on a busy machine."""
    with _one_thread():
        yield


def _run(name: str, /, **options: Any) -> None:
    from headstart.recipes import consistency

    with _one_thread():
        assert consistency.main(argv_of(name, **options)) == 0


@pytest.fixture
def step(capsys: pytest.CaptureFixture[str]) -> Step:
    """Run a step as the command line does, and return what it prints."""

    def run(name: str, /, **options: Any) -> dict[str, Any]:
        capsys.readouterr()
        _run(name, **options)
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions whose answers are to be known by heart."""
    chooser = random.Random(0)
    lines = []
    for number in range(NUM_PROMPTS):
        answer = "".join(chooser.choice("abcdefgh") for _ in range(24))
        lines.append(json.dumps({"prompt": chr(ord("A") + number), "answer": answer}))
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def taught(tiny_model: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after `--method sft`."""
    out = tmp_path_factory.mktemp("taught")
    taught = {"model": tiny_model, "data": prompts, "out": out, "method": "sft"}
    _run("train", **taught, epochs=300, learning_rate=3e-3, **TRAINING)
    return out / "model"


@pytest.fixture(scope="session")
def data(taught: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trajectories of what it says now."""
    out = tmp_path_factory.mktemp("collected")
    _run("collect", model=taught, prompts=prompts, out=out, **DECODING)
    return out
