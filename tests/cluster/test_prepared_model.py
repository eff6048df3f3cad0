"""What drafts for a model is checked before anything is started, and its card is heard."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headstart.cluster.prepared_model import TELLING_NAMES, prepared
from headstart.cluster.tokenizer_hash import tokenizer_hash
from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import DrafterSettings, SpeculationSettings
from headstart.stages.errors import SetupError
from headstart.stages.ngram_table import build
from tests.support.eagle_heads import METHODS, head_of


@pytest.fixture
def drafter(tiny_model: Path, tmp_path: Path) -> Path:
    """A drafter that was made for the tiny model."""
    return Path(shutil.copytree(tiny_model, tmp_path / "drafter"))


def changed(folder: Path, **fields: Any) -> Path:
    """The folder with another `config.json`."""
    file = folder / "config.json"
    config = json.loads(file.read_bytes()) | fields
    file.unlink()
    file.write_text(json.dumps(config))
    return folder


def renamed(folder: Path) -> Path:
    """The folder with a tokenizer in which two ids have changed places."""
    file = folder / "tokenizer.json"
    tree = json.loads(file.read_bytes())
    known = tree["model"]["vocab"]
    first, other = list(known)[40:42]
    known[first], known[other] = known[other], known[first]
    file.unlink()
    file.write_text(json.dumps(tree))
    return folder


def without_tokenizer(folder: Path) -> Path:
    for file in folder.glob("*token*"):
        file.unlink()
    return folder


def pool(model: Path, drafter: Path, method: Any = "draft_model") -> ModelSettings:
    drafters = {"de": DrafterSettings(source=str(drafter), method=method)}
    speculation = SpeculationSettings(drafters=drafters)
    _, found = ModelSettings(name="tiny", source=str(model), speculation=speculation).pools
    return found


def test_drafter_of_the_same_tokenizer_is_taken(
    tiny_model: Path, drafter: Path, tmp_path: Path
) -> None:
    found, folder = prepared(pool(tiny_model, drafter), tmp_path)

    assert folder == tiny_model
    assert found.drafter is not None
    assert found.drafter.source == str(drafter)


def test_drafter_of_another_tokenizer_is_refused(
    tiny_model: Path, drafter: Path, tmp_path: Path
) -> None:
    """Though both have as many tokens: its drafts would mean something else."""
    other = renamed(drafter)
    with pytest.raises(SetupError, match="was made with another tokenizer"):
        prepared(pool(tiny_model, other), tmp_path)
    for method in METHODS:
        head = head_of(tiny_model, method, tmp_path / method)
        shutil.copy(other / "tokenizer.json", head)
        with pytest.raises(SetupError, match="was made with another tokenizer"):
            prepared(pool(tiny_model, head, method), tmp_path)


def test_trimmed_drafter_is_refused(tiny_model: Path, drafter: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"vocabulary of 64 tokens, the model has \d+.*--full"):
        prepared(pool(tiny_model, changed(drafter, vocab_size=64)), tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_head_needs_no_tokenizer_and_may_be_trimmed(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    head = changed(head_of(tiny_model, method, tmp_path / "head"), vocab_size=64)

    prepared(pool(tiny_model, head, method), tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_head_of_another_model_is_refused(tiny_model: Path, tmp_path: Path, method: str) -> None:
    size = json.loads((tiny_model / "config.json").read_bytes())["hidden_size"]
    head = changed(head_of(tiny_model, method, tmp_path / "head"), hidden_size=size + 8)

    with pytest.raises(SetupError, match="take the head of this model"):
        prepared(pool(tiny_model, head, method), tmp_path)
    if method == "eagle3":  # such a head says apart what it reads
        prepared(pool(tiny_model, changed(head, target_hidden_size=size), method), tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_heads_and_models_are_told_apart(
    tiny_model: Path, drafter: Path, tmp_path: Path, method: str
) -> None:
    """vLLM would end in the middle of loading, and say which tensor it has no place for."""
    head = head_of(tiny_model, method, tmp_path / "head")
    for file in tiny_model.glob("*token*"):
        shutil.copy(file, head)

    with pytest.raises(SetupError, match="is a model, and no EAGLE head"):
        prepared(pool(tiny_model, drafter, method), tmp_path)
    with pytest.raises(SetupError, match="is an EAGLE head: set its `method`"):
        prepared(pool(tiny_model, head), tmp_path)


@pytest.mark.parametrize("name", TELLING_NAMES)
def test_model_in_a_folder_that_vllm_takes_for_a_heads_is_refused(
    tiny_model: Path, drafter: Path, tmp_path: Path, name: str
) -> None:
    moved = drafter.rename(tmp_path / f"My-{name.title()}-de")

    with pytest.raises(SetupError, match=f"`{name}` in its path.*rename"):
        prepared(pool(tiny_model, moved), tmp_path)


def test_model_that_drafts_needs_a_tokenizer(
    tiny_model: Path, drafter: Path, tmp_path: Path
) -> None:
    with pytest.raises(SetupError, match="holds no tokenizer"):
        prepared(pool(tiny_model, without_tokenizer(drafter)), tmp_path)


@pytest.mark.parametrize("head", ["headstart: {block_tokens: 1}", "headstart: ["])
@pytest.mark.parametrize("speculation", [None, SpeculationSettings()])
def test_card_that_speaks_nonsense_is_refused(
    drafter: Path, tmp_path: Path, head: str, speculation: SpeculationSettings | None
) -> None:
    (drafter / "README.md").write_text(f"---\n{head}\n---\n")
    model = ModelSettings(name="tuned", source=str(drafter), speculation=speculation)

    with pytest.raises(SetupError, match=r"README\.md") as caught:
        prepared(model, tmp_path)
    assert "\n" not in caught.value.message


def test_card_turns_speculation_on(drafter: Path, tmp_path: Path) -> None:
    model = ModelSettings(name="tuned", source=str(drafter))
    assert prepared(model, tmp_path)[0].speculation is None
    (drafter / "README.md").write_text("---\nheadstart: {block_tokens: 8}\n---\n")

    assert prepared(model, tmp_path)[0].speculation is not None


def test_table_is_checked_before_an_engine_is_there(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "de.table").write_bytes(b"garbage")
    speculation = SpeculationSettings(tables={"de": tmp_path / "de.table"})
    model = ModelSettings(name="tiny", source=str(tiny_model), speculation=speculation)

    with pytest.raises(SetupError, match="not an n-gram table"):
        prepared(model, tmp_path)


def test_table_of_another_vocabulary_is_refused(
    tiny_model: Path, drafter: Path, tmp_path: Path
) -> None:
    """Of a model of the same tokenizer, whose vocabulary is filled up to another size."""
    size = json.loads((tiny_model / "config.json").read_bytes())["vocab_size"]
    how: Any = {"language": "de", "vocabulary": size, "tokenizer": tokenizer_hash(tiny_model)}
    (tmp_path / "de.table").write_bytes(build(3 * [[5, 6, 7]], **how).encode())
    speculation = SpeculationSettings(tables={"de": tmp_path / "de.table"})

    def model(folder: Path) -> ModelSettings:
        return ModelSettings(name="tiny", source=str(folder), speculation=speculation)

    prepared(model(tiny_model), tmp_path)
    other = changed(drafter, vocab_size=size + 64)
    with pytest.raises(SetupError, match=f"of {size} tokens, the model has {size + 64}: build it"):
        prepared(model(other), tmp_path)
