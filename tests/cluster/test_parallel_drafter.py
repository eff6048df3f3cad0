"""What the worker is told to draft with, and what is refused before an engine starts."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from structlog.testing import capture_logs

from headstart.cluster import drafter_source
from headstart.cluster.model_card import with_card
from headstart.cluster.parallel_drafter import PLAN, ParallelDrafter, plan_of
from headstart.cluster.tokenizer_hash import tokenizer_hash
from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import SpeculationSettings
from headstart.stages.drafting import Verdict
from headstart.stages.errors import SetupError
from headstart.stages.ngram_table import build
from headstart.stages.speculation import RowStep
from headstart.stages.speculation_labels import Undrafted
from headstart.stages.step_cost import StepCost
from headstart.stages.wish import Wish

VOCABULARY = 50


def tokenizer(folder: Path, tokens: list[str]) -> Path:
    """A model's folder with a tokenizer of these tokens, the last of them an added one, and a
    vocabulary of just as many."""
    folder.mkdir(exist_ok=True)
    ids = {token: number for number, token in enumerate(tokens[:-1])}
    added = [{"id": len(ids), "content": tokens[-1], "special": True}]
    content = {"model": {"type": "BPE", "vocab": ids}, "added_tokens": added}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "config.json").write_text(json.dumps({"vocab_size": len(tokens)}))
    return folder


TOKENS = [f"t{number}" for number in range(VOCABULARY)]


@pytest.fixture
def german(tmp_path: Path) -> Path:
    """A table; the folder that it lies in is that of its model."""
    made_with = tokenizer_hash(tokenizer(tmp_path, TOKENS))
    path = tmp_path / "de.table"
    how: Any = {"language": "de", "vocabulary": VOCABULARY, "tokenizer": made_with}
    path.write_bytes(build(3 * [[5, 6, 7, 8]], **how).encode())
    return path


def drafter(plan: dict[str, Any], vocabulary: int = VOCABULARY) -> ParallelDrafter:
    model = SimpleNamespace(get_vocab_size=lambda: vocabulary)
    return ParallelDrafter(SimpleNamespace(model_config=model, additional_config={PLAN: plan}))


def first_draft(subject: ParallelDrafter, tokens: list[int], wish: Wish) -> list[int]:
    """What is drafted for a request after its first step, which gave the last of `tokens`."""
    subject.begin("a", tokens[:-1], wish)
    return subject.step([RowStep("a", Verdict(tokens[-1:]), room=3)], seconds=0.01)[0]


def card(folder: Path, head: str) -> Path:
    (folder / "README.md").write_text(f"---\n{head}\n---\n# A model\n")
    return folder


def test_language_has_its_table(tmp_path: Path, german: Path) -> None:
    settings = SpeculationSettings(tables={"de": german}, is_adaptive=False)
    subject = drafter(plan_of(settings, tmp_path))

    assert first_draft(subject, [1, 5], Wish("drafter", "de")) == [6, 7, 8]
    assert first_draft(subject, [1, 5], Wish("drafter", "de-AT")) == [6, 7, 8]
    assert first_draft(subject, [1, 5], Wish("auto", "de")) == [6, 7, 8]
    assert first_draft(subject, [1, 5], Wish("auto")) == []
    assert subject.counts.fallbacks == {}


def test_language_without_a_table_is_copied_for(tmp_path: Path, german: Path) -> None:
    settings = SpeculationSettings(tables={"de": german}, is_adaptive=False)
    subject = drafter(plan_of(settings, tmp_path))

    assert first_draft(subject, [1, 2, 3, 1, 2], Wish("drafter", "fr")) == [3, 1, 2]
    assert subject.counts.fallbacks == {Undrafted.NO_DRAFTER: 1}


def test_jacobi_is_automatic_where_the_card_has_a_block_length(tmp_path: Path) -> None:
    settings = SpeculationSettings(is_adaptive=False)
    plain, tuned = tmp_path / "plain", card_folder(tmp_path / "tuned")

    assert first_draft(drafter(plan_of(settings, plain)), [1, 2], Wish("auto")) == []
    subject = drafter(plan_of(settings, tuned))
    assert len(first_draft(subject, [1, 2], Wish("auto"))) == 3
    own = SpeculationSettings(is_adaptive=False, block_tokens=3)
    assert len(first_draft(drafter(plan_of(own, tuned)), [1, 2], Wish("auto"))) == 2


def test_card_decides_what_the_settings_leave_open(tmp_path: Path) -> None:
    plain, tuned = tmp_path / "plain", card_folder(tmp_path / "tuned")

    def decided(folder: Path, **settings: Any) -> tuple[str, int]:
        plan = plan_of(SpeculationSettings(**settings), folder)
        return plan["default"], plan["max_tokens"]

    assert decided(plain) == ("off", 16)
    assert decided(plain, block_tokens=6) == ("off", 16)
    assert decided(tuned) == ("auto", 7)
    assert decided(tuned, block_tokens=5) == ("auto", 4)
    assert decided(tuned, default="copy", max_tokens=12) == ("copy", 12)


def test_card_turns_speculation_on_where_nothing_is_said_of_it(tmp_path: Path) -> None:
    plain, tuned = tmp_path / "plain", card_folder(tmp_path / "tuned")
    model = ModelSettings(name="tuned", source=str(tuned), languages=("de",))

    assert with_card(model, plain) is model
    found = with_card(model, tuned)
    assert found.speculation is not None
    assert found.drafted_languages == model.drafted_languages == ("de",)
    subject = drafter(plan_of(found.speculation, tuned))
    assert subject.default == "auto"
    step = first_draft(subject, [1, 2], Wish.of({}, subject.default))
    assert subject.wants_predictions("a")
    assert len(step) <= 7
    for said in (
        {"speculation": SpeculationSettings(default="off")},
        {"engine_args": {"speculative_config": {"method": "ngram"}}},
        {"engine_args": {"data_parallel_size": 2}},
    ):
        spoken = model.model_copy(update=said)
        assert with_card(spoken, tuned) is spoken


def card_folder(folder: Path) -> Path:
    folder.mkdir()
    return card(folder, "license: apache-2.0\nheadstart:\n  block_tokens: 8")


@pytest.mark.parametrize("head", ["license: mit", "headstart:", "- a list", ""])
def test_card_need_not_speak_of_blocks(tmp_path: Path, head: str) -> None:
    plan = plan_of(SpeculationSettings(), card(tmp_path, head))

    assert plan["block_tokens"] is None


@pytest.mark.parametrize(
    "head",
    [
        "headstart: {block_tokens: 1}",
        "headstart: {block_tokens: many}",
        "headstart: {blocks: 8}",
        "headstart: 8",
        "headstart: [",
    ],
)
def test_card_that_speaks_nonsense_is_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(SetupError, match=r"README\.md"):
        plan_of(SpeculationSettings(), card(tmp_path, head))


def test_table_that_is_missing_or_of_another_language_is_refused(
    tmp_path: Path, german: Path
) -> None:
    for tables, why in (
        ({"de": tmp_path / "none"}, "cannot be read"),
        ({"fr": german}, "is of de, not of fr"),
    ):
        with pytest.raises(SetupError, match=why):
            plan_of(SpeculationSettings(tables=tables), tmp_path)
    german.write_bytes(b"garbage")
    with pytest.raises(SetupError, match="not an n-gram table"):
        plan_of(SpeculationSettings(tables={"de": german}), tmp_path)


def test_a_table_of_ours_is_named(
    tmp_path: Path, german: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "drafters"
    monkeypatch.setattr(drafter_source, "DRAFTERS", ours)
    settings = SpeculationSettings(tables={"de": Path("builtin:tiny-de")})
    with pytest.raises(SetupError, match="'tiny-de' of de: choose a file, there is none"):
        plan_of(settings, tmp_path)
    (ours / "tiny-de").mkdir(parents=True)
    german.rename(ours / "tiny-de/de.table")

    assert plan_of(settings, tmp_path)["tables"] == {"de": str(ours / "tiny-de/de.table")}
    for tables, why in (
        ({"de": "builtin:tiny"}, "'tiny' of de: choose one of tiny-de, or"),
        ({"fr": "builtin:tiny-de"}, "tiny-de is of another language than fr: choose a file"),
    ):
        with pytest.raises(SetupError, match=why):
            plan_of(SpeculationSettings.model_validate({"tables": tables}), tmp_path)


def test_table_of_another_tokenizer_is_refused(tmp_path: Path, german: Path) -> None:
    """Though both have as many tokens."""
    settings = SpeculationSettings(tables={"de": german})
    swapped = [TOKENS[1], TOKENS[0], *TOKENS[2:]]
    renamed = [*TOKENS[:-1], "<end>"]
    for other in (swapped, renamed):
        with pytest.raises(SetupError, match="was made with another tokenizer"):
            plan_of(settings, tokenizer(tmp_path / "other", other))
    with pytest.raises(SetupError, match="holds no tokenizer"):
        plan_of(settings, tmp_path / "none")
    (tmp_path / "other/tokenizer.json").write_text("[]")
    with pytest.raises(SetupError, match="cannot be read"):
        plan_of(settings, tmp_path / "other")


def test_tuned_weights_have_the_tokenizer_of_their_base(tmp_path: Path, german: Path) -> None:
    tuned = tokenizer(tmp_path / "tuned", TOKENS)
    content = json.loads((tuned / "tokenizer.json").read_text())
    content["truncation"] = {"max_length": 9}
    (tuned / "tokenizer.json").write_text(json.dumps(content, indent=2))

    assert plan_of(SpeculationSettings(tables={"de": german}), tuned)["tables"]


def test_tokenizers_of_other_forms_are_told_apart(tmp_path: Path) -> None:
    unigram = {"model": {"vocab": [["a", -1.5], ["b", -2.0]]}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(unigram))
    first = tokenizer_hash(tmp_path)
    assert first == tokenizer_hash(tokenizer(tmp_path / "same", ["a", "b"]))
    (tmp_path / "tokenizer.json").unlink()
    for content in (b"one", b"other"):
        (tmp_path / "tokenizer.model").write_bytes(content)
        first, before = tokenizer_hash(tmp_path), first
        assert first != before


def test_table_of_an_older_format_is_refused(tmp_path: Path, german: Path) -> None:
    old = {"language": "de", "vocabulary": 50, "order": 3, "followers": {}, "version": 1}
    german.write_bytes(msgspec.msgpack.encode(old))

    with pytest.raises(SetupError, match="of format 1, not 2: build it again"):
        plan_of(SpeculationSettings(tables={"de": german}), tmp_path)


def test_table_of_another_size_is_refused(tmp_path: Path, german: Path) -> None:
    """Before an engine is started, and by the worker where the model's size is kept elsewhere."""
    settings, why = SpeculationSettings(tables={"de": german}), "of 50 tokens, the model has 51"
    for config in ({"vocab_size": 51}, {"vocab_size": 50, "text_config": {"vocab_size": 51}}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(SetupError, match=why):
            plan_of(settings, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    plan = plan_of(settings, tmp_path)
    with pytest.raises(SetupError, match=why):
        drafter(plan, vocabulary=51)


def test_fault_of_the_controller_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = drafter(plan_of(SpeculationSettings(), tmp_path))
    fault = ValueError("made up")
    monkeypatch.setattr(StepCost, "observe", Mock(side_effect=fault))

    with capture_logs() as logs:
        drafts = [first_draft(subject, [1, 2, 1, 2], Wish("auto")) for _ in range(3)]

    assert drafts == [[], [], []]
    assert logs == [{"event": "speculation_failed", "exc_info": fault, "log_level": "error"}]
