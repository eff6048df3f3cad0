"""A model's source becomes a folder an engine can load, or one error that names the fix."""

import errno
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from headstart.cluster import model_source
from headstart.cluster.model_source import BUILTIN_MODELS, resolve
from headstart.stages.errors import SetupError

RESOLVE = """
import sys
from pathlib import Path
from headstart.cluster.model_source import resolve
print("folder", resolve(sys.argv[1], Path(sys.argv[2])))
"""


def test_gguf_becomes_bfloat16_weights_with_config_tokenizer_and_chat_template(
    tiny_gguf: Path, tiny_model: Path
) -> None:
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert model.dtype == torch.bfloat16
    [written] = [t for t in GGUFReader(tiny_gguf).tensors if t.name == "token_embd.weight"]
    read = model.state_dict()["model.embed_tokens.weight"]
    assert torch.equal(read, torch.from_numpy(np.array(written.data)).to(torch.bfloat16))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert tokenizer.decode(tokenizer("the thing: ünïcode 42")["input_ids"]) == (
        "the thing: ünïcode 42"
    )
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert chat == "<|start|>user: hi<|end|>"


def test_second_resolve_converts_nothing_and_imports_no_torch(
    tiny_gguf: Path, tiny_model: Path
) -> None:
    code = RESOLVE + 'assert "torch" not in sys.modules and "transformers" not in sys.modules\n'
    output = subprocess.check_output(
        [sys.executable, "-c", code, str(tiny_gguf), str(tiny_model.parent)], text=True
    )
    assert output.splitlines()[-1] == f"folder {tiny_model}"


def test_two_processes_at_once_convert_once(tiny_gguf: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RESOLVE, str(tiny_gguf), str(tmp_path)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert len({output.splitlines()[-1] for output in outputs}) == 1
    assert "".join(outputs).count("model_dequantising") == 1


def test_half_written_and_damaged_folders_are_made_again(tiny_gguf: Path, tmp_path: Path) -> None:
    folder = resolve(str(tiny_gguf), tmp_path)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    leftover = tmp_path / f"{folder.name}.partial" / "config.json"
    leftover.parent.mkdir()
    leftover.write_text("{")

    assert resolve(str(tiny_gguf), tmp_path) == folder
    assert weights.read_bytes() == whole
    assert not leftover.parent.exists()


def test_a_failed_conversion_leaves_no_folder(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and nothing more")
    with pytest.raises(SetupError, match="not a whole GGUF file"):
        resolve(str(broken), tmp_path / "cache")
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".lock", ".partial"}
    with pytest.raises(SetupError, match="not a whole GGUF file"):
        resolve(str(broken), tmp_path / "cache")


def test_another_file_at_the_same_path_is_another_model(tiny_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_gguf.read_bytes())
    first = resolve(str(path), tmp_path)
    path.write_bytes(tiny_gguf.read_bytes() + b"\0" * 32)
    assert resolve(str(path), tmp_path) != first


@pytest.mark.parametrize("keep", [0.0, 0.0005, 0.01, 0.1, 0.5, 0.99])
def test_truncated_gguf_is_refused(keep: float, tiny_gguf: Path, tmp_path: Path) -> None:
    content = tiny_gguf.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(SetupError, match="not a whole GGUF file"):
        resolve(str(path), tmp_path)


def test_unsupported_architecture_is_refused_by_name(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    path = tmp_path / "bert.gguf"
    writer = GGUFWriter(path, "bert")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(SetupError, match=r"architecture bert.*safetensors release"):
        resolve(str(path), tmp_path)


def test_a_full_disk_is_noticed_before_the_work(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_source, "BYTES_PER_WEIGHT", 1 << 50)
    with pytest.raises(SetupError, match="set cache_dir") as caught:
        resolve(str(tiny_gguf), tmp_path)
    assert caught.value.param == "cache_dir"


def test_a_cache_that_cannot_be_made_is_one_error(tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="file is not a folder"):
        resolve(str(tiny_gguf), tmp_path / "file")
    with pytest.raises(SetupError, match="cannot be written"):
        resolve(str(tiny_gguf), tmp_path / "file" / "below")


def test_a_whole_cache_is_only_read(
    tiny_gguf: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # Permissions would not stop root, and a mount needs more than a test has.
    monkeypatch.setattr(model_source, "_exclusive", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)

    assert resolve(str(tiny_gguf), tiny_model.parent) == tiny_model


@pytest.mark.parametrize("content", [b"", b"GGU", b"\0" * 64], ids=["empty", "short", "other"])
def test_a_file_of_another_kind_is_refused_before_the_cache_is_touched(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(SetupError, match="not a whole GGUF file"):
        resolve(str(path), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("source", "fix"),
    [
        ("builtin:none", "smollm2-135m-instruct"),
        ("/nowhere/model.gguf", "correct the path"),
        ("/nowhere/model", "give an existing folder"),
        ("./nowhere", "give an existing folder"),
        ("nowhere", "give an existing folder"),
    ],
)
def test_a_source_that_is_not_there_names_the_fix(source: str, fix: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=fix):
        resolve(source, tmp_path / "cache")


@pytest.mark.parametrize("name", BUILTIN_MODELS)
def test_built_in_models_are_in_the_environment(name: str) -> None:
    package, file = BUILTIN_MODELS[name]
    with Path(str(metadata.distribution(package).locate_file(file))).open("rb") as weights:
        assert weights.read(4) == b"GGUF"
