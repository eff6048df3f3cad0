"""An evaluation goes on where it was killed, and what it says is of the same answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from headstart.recipes import decoding_arms, evaluating
from headstart.stages.errors import SetupError
from tests.recipes.tiny_runs import DECODING, NUM_PROMPTS, Step

pytestmark = [
    pytest.mark.filterwarnings("ignore:::torch", "ignore:::accelerate", "ignore:::peft"),
    pytest.mark.usefixtures("one_thread"),
]


@pytest.fixture
def asked(taught: Path, prompts: Path) -> dict[str, Any]:
    return {"model": taught, "prompts": prompts, "seen": True, "pack_batch": 2, **DECODING}


@pytest.mark.parametrize(
    ("module", "name"),
    [(decoding_arms, "greedy"), (evaluating, "traced"), (evaluating, "losses")],
)
def test_a_killed_evaluation_goes_on_by_prompt(
    asked: dict[str, Any],
    tiny_model: Path,
    tmp_path: Path,
    step: Step,
    module: Any,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = step("evaluate", out=tmp_path / "whole", tuned=tiny_model, num=6, **asked)
    real = getattr(module, name)
    calls: list[int] = []

    def counted(model: Any, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == dies_at:
            raise KeyboardInterrupt
        return real(model, *args)

    monkeypatch.setattr(module, name, counted)
    dies_at = 2
    with pytest.raises(KeyboardInterrupt):
        step("evaluate", out=tmp_path / "killed", tuned=tiny_model, num=6, **asked)
    dies_at = 0
    before = len(calls)

    found = step("evaluate", out=tmp_path / "killed", tuned=tiny_model, num=6, **asked)

    def comparable(arms: dict[str, Any]) -> dict[str, Any]:
        return {arm: figures | {"date": ""} for arm, figures in arms.items()}

    assert comparable(found) == comparable(whole)
    if name != "losses":  # which is called once an arm, and yields by batch
        in_all = len(calls) - 1
        calls.clear()
        step("evaluate", out=tmp_path / "again", tuned=tiny_model, num=6, **asked)
        assert before == 2
        assert in_all == len(calls)


def test_other_prompts_by_the_same_name_are_another_evaluation(
    asked: dict[str, Any], prompts: Path, tmp_path: Path, step: Step
) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_bytes(prompts.read_bytes())
    step("evaluate", out=tmp_path / "out", **(asked | {"prompts": mine, "num": 2}))
    moved = tmp_path / "moved" / "mine.jsonl"
    moved.parent.mkdir()
    mine.rename(moved)
    how = asked | {"prompts": moved, "num": 2}
    step("evaluate", out=tmp_path / "like", like=tmp_path / "out", **how)

    moved.write_text("\n".join(moved.read_text().splitlines()[::-1]))

    with pytest.raises(SetupError, match="prompts_sha256"):
        step("evaluate", out=tmp_path / "out", **how)
    with pytest.raises(SetupError, match="prompts_sha256"):
        step("evaluate", out=tmp_path / "new", like=tmp_path / "out", **how)


def test_accuracy_alone_takes_no_steps(
    asked: dict[str, Any], prompts: Path, tiny_model: Path, tmp_path: Path, step: Step
) -> None:
    lines = [json.loads(line) for line in prompts.read_text().splitlines()]
    numbered = tmp_path / "numbered.jsonl"
    rows = [{"prompt": line["prompt"], "answer": str(n)} for n, line in enumerate(lines)]
    numbered.write_text("".join(json.dumps(row) + "\n" for row in rows))
    how = asked | {"prompts": numbered, "metric": "gsm8k", "metric_only": True}

    found = step("evaluate", out=tmp_path / "out", tuned=tiny_model, **how)

    assert set(found["tuned"]) >= {"right", "right_alone", "wrong_alone"}
    assert "not_looping" not in found["base"]
    assert found["base"]["answers"] == NUM_PROMPTS
    assert found["tuned"]["weights"] == tiny_model.name
    with pytest.raises(SetupError, match="needs a --metric"):
        step("evaluate", out=tmp_path / "x", **(how | {"metric": "none"}))


def test_an_evaluation_takes_the_base_of_another(
    asked: dict[str, Any], tiny_model: Path, tmp_path: Path, step: Step
) -> None:
    asked = asked | {"num": 2}
    first, second = tmp_path / "first", tmp_path / "second"
    found = step("evaluate", out=first, **asked)
    note = json.loads((first / "base.json").read_text())
    note["figures"]["mark"] = 1
    (first / "base.json").write_text(json.dumps(note))

    again = step("evaluate", out=second, like=first, tuned=tiny_model, **asked)

    assert again["base"] == found["base"] | {"mark": 1}
    assert "mark" not in again["tuned"]
    with pytest.raises(SetupError, match="measured with other num"):
        step("evaluate", out=tmp_path / "third", like=first, **(asked | {"num": 3}))
    with pytest.raises(SetupError, match="no evaluation"):
        step("evaluate", out=tmp_path / "fourth", like=tmp_path, **asked)


def test_an_arm_is_told_by_names_and_not_by_paths(tmp_path: Path) -> None:
    adapter, other = tmp_path / "taught", tmp_path / "fast"
    for folder, base in ((adapter, "builtin:small"), (other, str(adapter))):
        folder.mkdir()
        config = json.dumps({"base_model_name_or_path": base})
        (folder / "adapter_config.json").write_text(config)
    (tmp_path / "model").mkdir()

    said = evaluating.weights_in_words
    assert said(str(other), None) == "builtin:small with adapter taught with adapter fast"
    assert said(str(tmp_path / "model"), other) == "model with adapter fast"
    assert said("org/name", None) == "org/name"
