"""A model folder that lacks something is refused, and the error says what and where."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.cluster.model_source import resolve
from headstart.stages.errors import SetupError

Damage = Callable[[Path], object]


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _garble(file: Path) -> None:
    file.write_bytes(b"\xff" * 16 + file.read_bytes()[16:])


def _index(folder: Path, shard: str) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": shard}}))


DAMAGES: dict[str, tuple[Damage, str]] = {
    "empty": (_empty, "lacks config.json"),
    "no config": (lambda at: (at / "config.json").unlink(), "lacks config.json"),
    "cut config": (lambda at: (at / "config.json").write_text("{"), "config.json is damaged"),
    "config of nothing": (lambda at: (at / "config.json").write_text("{}"), "model_type"),
    "no weights": (lambda at: (at / "model.safetensors").unlink(), "holds no weights"),
    "empty weights": (lambda at: (at / "model.safetensors").write_bytes(b""), "fetch it again"),
    "cut weights": (lambda at: _cut(at / "model.safetensors"), "fetch it again"),
    "garbled header": (lambda at: _garble(at / "model.safetensors"), "fetch it again"),
    "missing shard": (lambda at: _index(at, "model-00001-of-00001.safetensors"), "lacks model-0"),
    "cut index": (
        lambda at: (at / "model.safetensors.index.json").write_text('{"weight_map": {"a"'),
        "index.json is damaged",
    ),
    "no tokenizer": (lambda at: (at / "tokenizer.json").unlink(), "holds no tokenizer"),
    "cut tokenizer": (lambda at: _cut(at / "tokenizer.json"), "tokenizer.json is damaged"),
}


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_whole_folder_is_taken_as_it_is(folder: Path, tmp_path: Path) -> None:
    assert resolve(str(folder), tmp_path / "cache") == folder
    assert not (tmp_path / "cache").exists()


def test_shards_that_the_index_lists_are_enough(folder: Path, tmp_path: Path) -> None:
    _index(folder, "model.safetensors")
    assert resolve(str(folder), tmp_path) == folder


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    damage, fix = DAMAGES[name]
    damage(folder)
    with pytest.raises(SetupError, match=fix) as caught:
        resolve(str(folder), tmp_path)
    assert str(folder) in caught.value.message
