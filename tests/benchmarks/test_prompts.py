"""Prompts: enough, different, the same for the same seed."""

import json
from pathlib import Path

import pytest

from headstart.benchmarks.overhead import FULL, QUICK, Plan
from headstart.benchmarks.prompts import FILE, prompts, source_of
from headstart.benchmarks.turns import num_prompts


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_our_own_last_for_a_run_without_repetition(plan: Plan) -> None:
    found = prompts(None, seed=1)
    assert len(set(found)) == len(found) >= num_prompts(plan.serving)


def test_seed_decides_the_order_alone() -> None:
    assert prompts(None, seed=1) == prompts(None, seed=1)
    assert prompts(None, seed=1) != prompts(None, seed=2)
    assert sorted(prompts(None, seed=1)) == sorted(prompts(None, seed=2))


def test_public_questions_are_taken_where_they_are(tmp_path: Path) -> None:
    rows = [{"question": f"How many? {number}\u2028", "answer": "1"} for number in (1, 2, 2)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (tmp_path / FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")

    assert sorted(prompts(tmp_path, seed=1)) == ["How many? 1\u2028", "How many? 2\u2028"]
    assert source_of(tmp_path).startswith("GSM8K")
    assert source_of(tmp_path / "elsewhere") == source_of(None)
