"""The n-gram tables that come with Headstart fit the model and the profile that names them."""

from importlib import resources
from pathlib import Path

import pytest

from headstart.cluster.drafter_source import DRAFTERS, table_file
from headstart.cluster.parallel_drafter import plan_of
from headstart.configs.settings import load
from headstart.stages.ngram_table import NgramTable

MOST_BYTES = 3_000_000
PROFILE = Path(str(resources.files("headstart.configs"))) / "languages.yaml"


def test_the_profiles_tables_are_of_its_model(vllm_model_path: Path) -> None:
    (model,) = load(PROFILE, [], {}).models

    assert model.speculation is not None
    assert model.speculation.tables.keys() == {"de", "fr", "ja", "ru", "zh"}
    assert plan_of(model.speculation, vllm_model_path)["default"] == "auto"


@pytest.mark.parametrize("path", sorted(DRAFTERS.glob("*/*.table")), ids=lambda path: path.stem)
def test_a_table_is_small_and_has_a_card(path: Path) -> None:
    assert path.stat().st_size <= MOST_BYTES
    assert NgramTable.decode(path.read_bytes()).language == path.stem
    assert table_file(Path(f"builtin:{path.parent.name}"), path.stem) == path
    card = (path.parent / "README.md").read_text(encoding="utf-8")
    assert f"language: {path.stem}\n" in card
    assert "tokens a step at T=0.0" in card
