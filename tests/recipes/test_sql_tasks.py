"""Questions about made-up databases, and what counts as an answer."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from headstart.recipes.sql_tasks import SqlOptions, example, generate, is_right
from headstart.stages.errors import SetupError

ROW = {
    "ddl": "CREATE TABLE t (id INTEGER PRIMARY KEY, city TEXT, age INTEGER)",
    "rows": [[1, "Oslo", 3], [2, "Lima", 5], [3, "Oslo", 7]],
    "answer": "SELECT city FROM t WHERE age > 4",
    "is_ordered": False,
}


def test_every_question_is_answered_by_its_own_answer() -> None:
    chooser = random.Random(1)
    rows = [example(chooser) for _ in range(300)]

    assert all(is_right(row, row["answer"]) for row in rows)
    assert len({row["prompt"] for row in rows}) > 280
    assert len({row["ddl"] for row in rows}) > 50


@pytest.mark.parametrize(
    "answer",
    [
        "SELECT city FROM t WHERE age > 4",
        "select city from t where age >= 5 order by id desc;",
        "Here it is:\n```sql\nSELECT city FROM t WHERE age > 4\n```\nIt reads the cities.",
    ],
)
def test_same_rows_are_right(answer: str) -> None:
    assert is_right(ROW, answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I do not know.",
        "SELECT city FROM t",
        "SELECT town FROM t WHERE age > 4",
        "DROP TABLE t",
        "ATTACH DATABASE 'stolen.db' AS other",
        "SELECT city FROM t WHERE age > 4; DROP TABLE t",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT COUNT(*) FROM n",
    ],
)
def test_other_rows_no_rows_and_mischief_are_wrong(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert not is_right(ROW, answer)
    assert not list(tmp_path.iterdir())


def test_order_counts_where_it_was_asked_for() -> None:
    ordered: dict[str, Any] = ROW | {
        "answer": "SELECT age FROM t ORDER BY age",
        "is_ordered": True,
    }

    assert is_right(ordered, "SELECT age FROM t ORDER BY age ASC")
    assert not is_right(ordered, "SELECT age FROM t ORDER BY age DESC")


def test_files_repeat_themselves_and_share_no_question(tmp_path: Path) -> None:
    options = [SqlOptions(out=tmp_path / name, num=120, num_test=40) for name in "ab"]

    assert [generate(each) for each in options] == [{"test": 40, "train": 120}] * 2

    def read(folder: str, name: str) -> list[Any]:
        lines = (tmp_path / folder / f"{name}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    assert read("a", "train") == read("b", "train")
    train, test = ({row["prompt"] for row in read("a", name)} for name in ("train", "test"))
    assert not train & test


def test_prompts_of_another_kind_are_refused() -> None:
    with pytest.raises(SetupError, match="step `sql`"):
        is_right({"answer": "x"}, "x")
