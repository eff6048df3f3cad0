"""What the decode benchmark asks for and replays."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from headstart.benchmarks.decode_tasks import (
    COPIED,
    SETS,
    TABLE_LANGUAGES,
    input_language,
    questions,
    taught,
)
from headstart.benchmarks.replay_drafter import ReplayDrafter, Replayed, write_answers
from headstart.cluster.parallel_drafter import PLAN, plan_of
from headstart.configs.speculation import SpeculationSettings
from headstart.stages.drafting import Verdict
from headstart.stages.speculation import RowStep
from headstart.stages.wish import Wish

ROWS = {
    "gsm8k_test.jsonl": {"question": "How many?", "answer": "2"},
    "humaneval.jsonl": {"prompt": "def one():\n", "test": ""},
    "mmlu_pro.jsonl": {
        "category": "law",
        "question": "Which?",
        "options": ["this", "that"],
        "answer": "A",
        "reference_cot": "",
    },
    "spider_dev.jsonl": {"db_id": "pets", "question": "How old?", "query": ""},
}
SAID = {
    "gsm8k": "How many?",
    "humaneval": "def one():",
    "mmlu_pro": "(B) that",
    "spider": "`pets`: How old?",
    "translate_de": "Hallo",
    "translate_ja": "もしもし",
}


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    for name, row in ROWS.items():
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    spoken = [{"turns": [SAID[f"translate_{lang}"]], "lang": lang} for lang in ("de", "ja")]
    lines = "".join(json.dumps(row) + "\n" for row in spoken)
    (tmp_path / "translate_to_en.jsonl").write_text(lines)
    return tmp_path


@pytest.mark.parametrize("task", COPIED)
def test_tasks_have_prompts_enough(task: str) -> None:
    found = questions(task, 36, None, 1)

    assert len(set(found)) == 36
    assert found == questions(task, 36, None, 1)


@pytest.mark.parametrize("task", SETS)
def test_sets_are_read_by_language(sets: Path, task: str) -> None:
    found = questions(task, 10, sets, 1)

    assert len(found) == (task in SAID)
    assert all(SAID[task] in text for text in found)
    assert not questions(task, 10, None, 1)
    assert input_language(task) == (task[-2:] if task.startswith("translate") else "en")


@pytest.mark.parametrize("language", TABLE_LANGUAGES)
def test_tables_are_taught_by_many_prompts(language: str) -> None:
    found = taught(language, 24)

    assert len(set(found)) == 24


@pytest.mark.parametrize(
    ("mode", "company_tokens"),
    [("drafter", 0), ("jacobi", 0), ("jacobi", 16), ("auto", 16)],
)
def test_replay_is_right_as_often_as_asked(tmp_path: Path, mode: str, company_tokens: int) -> None:
    answer = list(range(10, 40))
    known = tmp_path / "known"
    write_answers(known, [([1, 2], answer)])
    drafter = replaying_drafter(tmp_path)
    how = Replayed(str(known), num_right=3, num_drafted=5, company_tokens=company_tokens)
    drafter.begin("a", [1, 2], Wish.of(how.arguments(mode), "off"))
    assert drafter.wants_predictions("a") is (mode != "drafter")
    at = 1
    drafted: list[int] = []
    while True:
        verdict = Verdict(answer[at - 1 : at] if not drafted else answer[at - 4 : at], drafted)
        [drafted] = drafter.step([RowStep("a", verdict, room=16)], seconds=0.01)
        if not drafted:
            break
        assert len(drafted) == 5
        assert drafted[:3] == answer[at : at + 3]
        assert all(
            token != right
            for token, right in zip(drafted[3:], answer[at + 3 : at + 5], strict=True)
        )
        at += 4
    assert at > len(answer) - 6


def test_who_replays_nothing_drafts_for_real(tmp_path: Path) -> None:
    drafter = replaying_drafter(tmp_path)
    drafter.begin("a", [5, 6, 7, 5, 6], Wish("copy"))

    assert drafter.step([RowStep("a", Verdict([7]), room=2)], seconds=0.01) == [[5, 6]]


def replaying_drafter(folder: Path) -> ReplayDrafter:
    settings = SpeculationSettings(is_adaptive=False, block_tokens=4)
    model = SimpleNamespace(get_vocab_size=lambda: 50)
    plan = {PLAN: plan_of(settings, folder)}
    return ReplayDrafter(SimpleNamespace(model_config=model, additional_config=plan))
