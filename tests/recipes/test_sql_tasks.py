"""Questions about made-up databases, and what counts as an answer."""

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from headstart.cluster.model_card import declared_block
from headstart.cluster.model_source import ADAPTERS
from headstart.configs.settings import Settings
from headstart.recipes import sql_tasks
from headstart.recipes.sql_made_up import made_up
from headstart.recipes.sql_running import is_right
from headstart.recipes.sql_tables import NEW_TABLES, TABLES
from headstart.recipes.sql_tasks import SqlOptions, example, generate, of_tables, of_words
from headstart.stages.errors import SetupError

ROOT = Path(__file__).parents[2]
ROW = {
    "ddl": "CREATE TABLE t (id INTEGER PRIMARY KEY, city TEXT, age INTEGER)",
    "databases": [
        [[1, "Oslo", 3], [2, "Lima", 5], [3, "Oslo", 7]],
        [[1, "Rome", 5], [2, "Lima", 4]],
    ],
    "answer": "SELECT city FROM t WHERE age > 4",
    "is_ordered": False,
}


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    chooser = random.Random(1)
    sources = (of_tables(list(TABLES)), of_words) * 200
    return [row for tables in sources if (row := example(tables, chooser)) is not None]


def test_every_question_is_answered_by_its_own_answer(rows: list[dict[str, Any]]) -> None:
    assert len(rows) > 200
    assert all(is_right(row, row["answer"]) for row in rows)
    assert len({row["prompt"] for row in rows}) > 0.95 * len(rows)
    assert len({row["ddl"] for row in rows}) > 50
    assert all(len(row["databases"]) == 3 for row in rows)
    assert all(40 <= len(each) <= 60 for row in rows for each in row["databases"])


@pytest.mark.parametrize("by", [-7, -1, 1, 7])
def test_a_bound_that_is_moved_is_wrong(rows: list[dict[str, Any]], by: int) -> None:
    found = []
    for row in rows:
        bound = re.search(r"(?<!COUNT\(\*\)) [<>] (\d+)", row["answer"])
        if bound is not None:
            query = row["answer"]
            moved = query[: bound.start(1)] + str(int(bound[1]) + by) + query[bound.end(1) :]
            found.append(is_right(row, moved))

    assert len(found) > 100
    assert sum(found) <= (0.05 * len(found) if abs(by) > 1 else 0)


def test_another_direction_is_wrong_and_order_counts_only_where_it_was_asked_for(
    rows: list[dict[str, Any]],
) -> None:
    turn = {"ASC": "DESC", "DESC": "ASC"}
    ordered = [row for row in rows if row["is_ordered"]]
    turned = [
        re.sub(r"\b(ASC|DESC)\b", lambda found: turn[found[1]], row["answer"]) for row in ordered
    ]
    grouped = [row for row in rows if "GROUP BY" in row["answer"]]

    assert len(ordered) > 20
    assert all(re.search("the (highest|lowest)|with the", row["question"]) for row in ordered)
    assert not any(map(is_right, ordered, turned))
    assert len(grouped) > 50
    assert all(is_right(row, f"{row['answer']} DESC") for row in grouped)


def test_what_is_asked_for_is_not_what_the_question_tells(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        told = re.findall(r"(\w+) = '", row["answer"])
        shown = re.findall(r"\w+", row["answer"].partition("FROM")[0])
        assert not set(told) & set(shown), row["answer"]


def test_a_condition_that_is_left_out_is_wrong(rows: list[dict[str, Any]]) -> None:
    with_two = [row for row in rows if " AND " in row["answer"]]
    shorter = [re.sub(r" AND .*?(?= GROUP| ORDER|$)", "", row["answer"]) for row in with_two]

    assert len(with_two) > 50
    assert not any(map(is_right, with_two, shorter))


@pytest.mark.parametrize(
    "answer",
    [
        "SELECT city FROM t WHERE age > 4",
        "select city from t where age >= 5 order by id desc;",
        "SELECT city FROM t WHERE age > 4.5",
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
        "SELECT city FROM t WHERE id > 1",  # right in one database
        "SELECT town FROM t WHERE age > 4",
        "SELECT zeroblob(1000000000)",
        "SELECT city || zeroblob(99999) FROM t WHERE age > 4",
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
    counts = {"train": 300, "test": 60, "new_tables": 30}
    options = [
        SqlOptions(out=tmp_path / name, num=300, num_test=60, num_new=30, seed=3) for name in "ab"
    ]

    assert [generate(each) for each in options] == [counts] * 2

    def read(folder: str, name: str) -> list[Any]:
        lines = (tmp_path / folder / f"{name}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    assert read("a", "train") == read("b", "train")
    train, test, new = (read("a", name) for name in ("train", "test", "new_tables"))
    for name in ("prompt", "question", "answer"):
        known = {row[name] for row in train}
        assert not any(row[name] in known for row in [*test, *new])
        assert len({row[name] for row in test}) == len(test)
    assert {row["ddl"].split()[2] for row in new} == set(NEW_TABLES)
    assert not {row["ddl"].split()[2] for row in [*train, *test]} & set(NEW_TABLES)


def test_tables_drawn_from_words_are_many_and_none_of_the_new() -> None:
    """No value of a new table is known, and no column but those that known tables have, too."""
    chooser = random.Random(2)
    drawn = [made_up(chooser) for _ in range(2000)]

    def words(columns: Mapping[str, tuple[str, ...]]) -> set[str]:
        return {value for name, values in columns.items() if name != "#" for value in values}

    names = {name for name, _ in drawn}
    values = {value for _, columns in drawn for value in words(columns)}
    assert len(names) > 40
    assert len(values) > 10_000
    assert not names & set(TABLES)
    columns = {column for _, each in drawn for column in (*each, *each["#"])} - {"#"}
    for name in NEW_TABLES:
        assert not values & words(TABLES[name])
        assert not columns & {*TABLES[name], *TABLES[name]["#"]} - {"#"}
    assert {len(value.split()) for value in values} == {1, 2, 3}
    assert all(len(columns) == 5 and len(columns["#"]) == 4 for _, columns in drawn)


def test_share_of_tables_drawn_from_words_is_as_asked(tmp_path: Path) -> None:
    found: dict[str, list[int]] = {"train": [], "test": []}
    for share in (0.0, 0.5, 1.0):
        options = SqlOptions(out=tmp_path, num=300, num_test=300, num_new=1, made_up=share)
        generate(options)
        for name, counts in found.items():
            rows = map(json.loads, (tmp_path / f"{name}.jsonl").read_text().splitlines())
            counts.append(sum(row["ddl"].split()[2] not in TABLES for row in rows))

    for counts in found.values():
        assert (counts[0], counts[2]) == (0, 300)
        assert 120 < counts[1] < 180


def test_no_query_of_the_test_is_trained_on_with_its_conditions_in_another_order(
    tmp_path: Path,
) -> None:
    generate(SqlOptions(out=tmp_path, num=1500, num_test=800, num_new=1, made_up=0))

    def queries(name: str) -> set[str]:
        rows = map(json.loads, (tmp_path / f"{name}.jsonl").read_text().splitlines())
        return {
            re.sub(r"WHERE (.+?) AND (.+?)(?= GROUP| ORDER|$)", _in_order, row["answer"])
            for row in rows
        }

    assert not queries("train") & queries("test")


def _in_order(found: re.Match[str]) -> str:
    return "WHERE " + " AND ".join(sorted(found.groups()))


def test_more_questions_than_there_are_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_tasks, "_is_test", lambda _: False)

    with pytest.raises(SetupError, match="there are 0 questions for test, not 2"):
        generate(SqlOptions(out=tmp_path, num=1, num_test=2))


def test_prompts_of_another_kind_are_refused() -> None:
    with pytest.raises(SetupError, match="step `sql`"):
        is_right({"answer": "x"}, "x")


def test_documented_prompts_have_the_form_of_those_that_it_learned(
    rows: list[dict[str, Any]],
) -> None:
    def parts(prompt: str) -> list[str]:
        """Leave out what differs from prompt to prompt."""
        table, told, question = prompt.split("\n\n")
        return [table[:13], table[-2:], told, question[:10]]

    card = (ADAPTERS / "smollm2-135m-sql-fast" / "README.md").read_text()
    fenced = card.split("```")[1].strip()
    page = (ROOT / "docs" / "recipes" / "consistency.md").read_text()
    body = json.loads(page.partition("chat/completions")[2].partition("-d '")[2].partition("'")[0])

    form = parts(rows[0]["prompt"])
    assert parts(fenced) == form
    assert body["messages"] == [{"role": "user", "content": fenced}]
    assert re.sub(r"\(.*", "", fenced).split()[2] in TABLES
    served = page.partition("```yaml\n# sql.yaml")[2].partition("```")[0]
    (model,) = Settings.model_validate(yaml.safe_load(served)).models
    assert (model.name, model.source) == (body["model"], "builtin:smollm2-135m-sql-fast")
    assert declared_block(ADAPTERS / "smollm2-135m-sql-fast") == 16
