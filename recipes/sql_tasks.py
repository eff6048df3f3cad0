"""Questions in English about made-up databases, with the SQL that answers them.

Schemas, rows, questions and answers are drawn from a seed. Every answer is run by sqlite3 before
it is written, in three databases: it has rows there, and others than it would have without one of
its conditions, with a bound beside its own, or in the other direction.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from headstart.recipes.options import option
from headstart.recipes.sql_made_up import made_up
from headstart.recipes.sql_running import Found, opened, same
from headstart.recipes.sql_tables import NEW_TABLES, TABLES, Condition, Row, Schema, database
from headstart.stages.errors import SetupError

__all__ = ["SqlOptions", "example", "generate", "of_tables", "of_words"]

_DATABASES = 3
_DRAWS = 4
"""Of databases to a question, before another question is drawn."""
_TRIES = 2000
"""Of questions, until one is new and wanted."""
_TEST_OF = 8
"""One in so many of all questions that there are is for the test alone."""


@dataclass(frozen=True, kw_only=True)
class SqlOptions:
    """What `sql` is told."""

    out: Path = option("folder for train.jsonl, test.jsonl and new_tables.jsonl")
    num: int = option("questions to train on", 4000)
    num_test: int = option("questions to test on, no query of which is in training", 1000)
    num_new: int = option("questions to test on, about tables that no other question has", 300)
    made_up: float = option(
        "share of the first two sets that is about tables drawn from words, each its own",
        0.5,
        most=1,
    )
    seed: int = option("of everything", 0)


def generate(options: SqlOptions) -> dict[str, Any]:
    """Write the files; returns how many questions each holds.

    Raises:
        SetupError: They cannot be written, or there are not as many questions.
    """
    known = of_tables([table for table in TABLES if table not in NEW_TABLES])
    sets = {
        "test": (options.num_test, known, options.made_up, _is_test),
        "train": (options.num, known, options.made_up, _is_train),
        "new_tables": (options.num_new, of_tables(NEW_TABLES), 0.0, _any),
    }
    for name, (num, tables, share, belongs) in sets.items():
        chooser = random.Random(f"{options.seed} {name}")  # noqa: S311 - no secret
        # In training a question may come again, about a table with other columns.
        unique = "prompt" if name == "train" else "answer"
        rows = list(_drawn(num, tables, share, belongs, chooser, unique))
        if len(rows) < num:
            raise SetupError(f"there are {len(rows)} questions for {name}, not {num}: ask for less")
        text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
        try:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / f"{name}.jsonl").write_text(text, encoding="utf-8")
        except OSError as error:
            raise SetupError(f"{options.out} cannot be written: {error.strerror}") from error
    return {name: num for name, (num, *_) in sets.items()}


Tables = Callable[[random.Random], Schema]
"""Draws what a question is about."""
Belongs = Callable[["_Asked"], bool]
"""Whether a question is wanted in a set."""


def of_tables(names: Sequence[str]) -> Tables:
    """Questions are about these tables, with some of their columns."""

    def drawn(chooser: random.Random) -> Schema:
        table = chooser.choice(names)
        return Schema.drawn(table, TABLES[table], chooser)

    return drawn


def of_words(chooser: random.Random) -> Schema:
    """Each question is about a table of its own, drawn from words."""
    return Schema.drawn(*made_up(chooser), chooser)


def _is_test(asked: "_Asked") -> bool:
    """Whether a query, whatever the schema, is for the test."""
    return sha256(asked.query.encode()).digest()[0] % _TEST_OF == 0


def _is_train(asked: "_Asked") -> bool:
    """Whether a query is for training: none for the test, with its conditions in either order."""
    other = replace(asked, conditions=asked.conditions[::-1])
    return not _is_test(asked) and not _is_test(other)


def _any(_: "_Asked") -> bool:
    return True


def _drawn(
    num: int,
    tables: Tables,
    share: float,
    belongs: Belongs,
    chooser: random.Random,
    unique: str,
) -> Iterator[dict[str, Any]]:
    """Draw different questions until there are as many, or no further is found."""
    seen: set[str] = set()
    while len(seen) < num:
        # First what it is about: what is often drawn again, or refused, keeps its share.
        about = of_words if chooser.random() < share else tables
        for _ in range(_TRIES):
            row = example(about, chooser, belongs)
            if row is not None and row[unique] not in seen:
                seen.add(row[unique])
                yield row
                break
        else:
            return


def example(
    tables: Tables, chooser: random.Random, belongs: Belongs = _any
) -> dict[str, Any] | None:
    """Draw a question, and databases that tell its answer from answers that are nearly right.

    Args:
        belongs: Whether an answer is wanted.

    Returns:
        What is written; None where the answer is not wanted, or no such databases were drawn.
    """
    schema = tables(chooser)
    asked = _question(schema, chooser)
    if not belongs(asked):
        return None
    for _ in range(_DRAWS):
        databases = [database(schema, asked.conditions, chooser) for _ in range(_DATABASES)]
        if _tells(schema.ddl, databases, asked):
            break
    else:
        return None
    prompt = (
        f"{schema.ddl};\n\nWrite one SQLite query that answers the question. "
        f"Reply with the query only.\n\nQuestion: {asked.question}"
    )
    return {
        "prompt": prompt,
        "question": asked.question,
        "answer": asked.query,
        "ddl": schema.ddl,
        "databases": databases,
        "is_ordered": asked.is_ordered,
    }


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question, and the query that answers it: `{}` in both is where conditions stand."""

    said: str
    template: str
    conditions: tuple[Condition, ...]
    having: int | None = None
    """Bound of a group's rows, `{having}` in both."""

    @property
    def question(self) -> str:
        conditions = " and ".join(each.said for each in self.conditions)
        said = f" that {conditions}" if conditions else ""
        return self.said.replace("{}", said).replace("{having}", str(self.having))

    @property
    def query(self) -> str:
        conditions = " AND ".join(each.where for each in self.conditions)
        where = f" WHERE {conditions}" if conditions else ""
        return self.template.replace("{}", where).replace("{having}", str(self.having))

    @property
    def is_ordered(self) -> bool:
        """Whether the question names an order: among groups it names none."""
        return "LIMIT" in self.template

    def near(self) -> Iterator["_Asked"]:
        """Return what leaves a condition out, has a bound beside its own, or is turned round."""
        for one, other in (("ASC", "DESC"), ("DESC", "ASC")):
            if one in self.template:
                yield replace(self, template=self.template.replace(one, other))
        for place, each in enumerate(self.conditions):
            before, behind = self.conditions[:place], self.conditions[place + 1 :]
            yield replace(self, conditions=before + behind)
            if isinstance(each.value, int):
                for value in (each.value - 1, each.value + 1):
                    moved = replace(each, value=value)
                    yield replace(self, conditions=(*before, moved, *behind))
        if self.having is not None:
            yield from (replace(self, having=self.having + by) for by in (-1, 1))


def _tells(ddl: str, databases: Sequence[Sequence[Row]], asked: _Asked) -> bool:
    """Whether the answer has rows everywhere, and no query near it has the same everywhere."""
    left = [each.query for each in asked.near()]
    for rows in databases:
        with opened(ddl, rows) as run:
            meant = run(asked.query)
            if not _has_values(meant):
                return False
            left = [each for each in left if same(meant, run(each), is_ordered=asked.is_ordered)]
    return not left


def _has_values(found: Found) -> bool:
    return bool(found) and not any("None" in row for row in found or ())


def _question(schema: Schema, chooser: random.Random) -> _Asked:
    """Draw what is shown, of which rows, and in which order or groups."""
    table = schema.table
    some = _conditions(schema, chooser)
    # Half of the questions that can do without have no condition.
    few = some if chooser.random() < 0.5 else ()
    # What is asked for is not what the question has told.
    told = {each.name for each in some}
    number = chooser.choice(schema.numbers)
    text = chooser.choice([name for name in schema.texts if name not in told])
    spoken = {name: name.replace("_", " ") for name in (*schema.texts, *schema.numbers)}
    kind = chooser.randrange(7)
    if kind == 0:
        return _Asked(f"How many {table}{{}} are there?", f"SELECT COUNT(*) FROM {table}{{}}", some)
    if kind == 1:
        function, word = chooser.choice((("AVG", "average"), ("SUM", "total")))
        said = f"What is the {word} {spoken[number]} of {table}{{}}?"
        return _Asked(said, f"SELECT {function}({number}) FROM {table}{{}}", some)
    if kind == 2:
        function, word = chooser.choice((("MAX", "highest"), ("MIN", "lowest")))
        return _Asked(
            f"For each {spoken[text]}, what is the {word} {spoken[number]} of {table}{{}}?",
            f"SELECT {text}, {function}({number}) FROM {table}{{}} GROUP BY {text} ORDER BY {text}",
            few,
        )
    if kind == 3:
        return _Asked(
            f"How many {table}{{}} are there for each {spoken[text]}?",
            f"SELECT {text}, COUNT(*) FROM {table}{{}} GROUP BY {text} ORDER BY {text}",
            some,
        )
    if kind == 4:
        shown = [text, number]
        chooser.shuffle(shown)
        names = " and ".join(spoken[name] for name in shown)
        query = f"SELECT {', '.join(shown)} FROM {table}{{}}"
        return _Asked(f"Show {names} of all {table}{{}}.", query, some)
    if kind == 5:
        limit = chooser.randint(2, 5)
        direction, word = chooser.choice((("DESC", "highest"), ("ASC", "lowest")))
        order = f"ORDER BY {number} {direction}, id LIMIT {limit}"
        return _Asked(
            f"Of {table}{{}}, list the {spoken[text]} of the {limit} with the {word} "
            f"{spoken[number]}.",
            f"SELECT {text} FROM {table}{{}} {order}",
            few,
        )
    return _Asked(
        f"Which {spoken[text]} have more than {{having}} {table}{{}}, and how many?",
        f"SELECT {text}, COUNT(*) FROM {table}{{}} GROUP BY {text} HAVING COUNT(*) > {{having}} "
        f"ORDER BY {text}",
        few,
        having=chooser.randint(2, 12),
    )


def _conditions(schema: Schema, chooser: random.Random) -> tuple[Condition, ...]:
    found = []
    for kind in chooser.sample(("text", "number"), chooser.randint(1, 2)):
        if kind == "text":
            name = chooser.choice(schema.texts)
            found.append(Condition(name, "=", chooser.choice(schema.values[name])))
        else:
            name, bound = chooser.choice(schema.numbers), chooser.randint(10, 90)
            found.append(Condition(name, chooser.choice("<>"), bound))
    return tuple(found)
