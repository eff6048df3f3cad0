"""Questions in English about made-up databases, with the SQL that answers them.

Schemas, rows, questions and answers are drawn from a seed. Every answer is run by sqlite3 before
it is written; an answer of a model is right if running it gives the same rows.
"""

import json
import random
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.recipes.options import option
from headstart.stages.errors import SetupError

__all__ = ["SqlOptions", "example", "generate", "is_right"]

_MAX_ROWS = 200
_MAX_STEPS = 1_000_000
"""Of sqlite's virtual machine: an answer may not run for ever."""

_TABLES: dict[str, dict[str, tuple[str, ...]]] = {
    # Table: text columns (with values) and numbers.
    "employees": {
        "name": ("Ana", "Ben", "Chen", "Dora", "Emil", "Fay", "Gus", "Hana", "Ivo", "Jun"),
        "city": ("Berlin", "Lagos", "Lima", "Osaka", "Oslo"),
        "department": ("sales", "research", "support", "legal"),
        "#": ("age", "salary", "years_employed"),
    },
    "products": {
        "name": ("lamp", "chair", "desk", "clock", "shelf", "mirror", "vase", "rug"),
        "category": ("office", "kitchen", "garden", "bedroom"),
        "brand": ("Arbo", "Lumen", "Nordi", "Solva"),
        "#": ("price", "stock", "weight"),
    },
    "flights": {
        "airline": ("Aero", "Blue Wing", "Cirrus", "Delphi"),
        "origin": ("Rome", "Cairo", "Quito", "Seoul", "Perth"),
        "destination": ("Paris", "Delhi", "Accra", "Miami", "Tunis"),
        "#": ("distance", "duration", "passengers"),
    },
    "books": {
        "title": ("Dawn", "Echo", "Ferry", "Gale", "Harbor", "Inlet", "Jade", "Kite"),
        "author": ("Abe", "Borges", "Calvino", "Duras", "Eco"),
        "genre": ("crime", "poetry", "history", "travel"),
        "#": ("pages", "year", "copies_sold"),
    },
    "students": {
        "name": ("Aya", "Bo", "Cleo", "Dan", "Eve", "Finn", "Gia", "Hugo"),
        "major": ("physics", "law", "music", "biology"),
        "country": ("Chile", "Ghana", "India", "Norway", "Spain"),
        "#": ("age", "credits", "grade"),
    },
    "orders": {
        "customer": ("Adler", "Baum", "Cole", "Diaz", "Engel", "Ford"),
        "status": ("open", "shipped", "returned", "paid"),
        "region": ("north", "south", "east", "west"),
        "#": ("amount", "quantity", "discount"),
    },
    "houses": {
        "street": ("Elm Road", "Mill Lane", "High Street", "Park Way"),
        "style": ("cottage", "villa", "loft", "cabin"),
        "town": ("Ashford", "Benton", "Colby", "Dunmore"),
        "#": ("price", "rooms", "year_built"),
    },
    "songs": {
        "title": ("Amber", "Blue", "Cold", "Drift", "Ember", "Fade", "Glow"),
        "artist": ("Kora", "Lumo", "Mira", "Nilo"),
        "genre": ("jazz", "rock", "folk", "soul"),
        "#": ("length", "plays", "year"),
    },
}


@dataclass(frozen=True, kw_only=True)
class SqlOptions:
    """What `sql` is told."""

    out: Path = option("folder for train.jsonl and test.jsonl")
    num: int = option("questions to train on", 4000)
    num_test: int = option("questions to test on, none of them in training", 300)
    seed: int = option("of everything", 0)


@dataclass(frozen=True, slots=True)
class _Schema:
    table: str
    texts: tuple[str, ...]
    numbers: tuple[str, ...]

    @property
    def ddl(self) -> str:
        columns = [f"{name} TEXT" for name in self.texts]
        columns += [f"{name} INTEGER" for name in self.numbers]
        return f"CREATE TABLE {self.table} (id INTEGER PRIMARY KEY, {', '.join(columns)})"


def generate(options: SqlOptions) -> dict[str, Any]:
    """Write both files; returns how many questions they hold.

    Raises:
        SetupError: They cannot be written.
    """
    seen: set[str] = set()
    counts = {}
    for name, num in (("test", options.num_test), ("train", options.num)):
        chooser = random.Random(f"{options.seed} {name}")  # noqa: S311 - no secret
        rows: list[dict[str, Any]] = []
        for _ in range(100 * num):
            if len(rows) == num:
                break
            row = example(chooser)
            # The test's questions come first, and training repeats none of them.
            if row["prompt"] not in seen:
                seen.add(row["prompt"])
                rows.append(row)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        try:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / f"{name}.jsonl").write_text(text, encoding="utf-8")
        except OSError as error:
            raise SetupError(f"{options.out} cannot be written: {error.strerror}") from error
        counts[name] = len(rows)
    return counts


def example(chooser: random.Random) -> dict[str, Any]:
    """Draw a database and a question about it; its answer has been run."""
    table = chooser.choice(list(_TABLES))
    known = _TABLES[table]
    texts = chooser.sample([name for name in known if name != "#"], chooser.randint(2, 3))
    numbers = chooser.sample(list(known["#"]), chooser.randint(2, 3))
    schema = _Schema(table, tuple(texts), tuple(numbers))
    rows = [
        [number, *(chooser.choice(known[name]) for name in texts)]
        + [chooser.randint(1, 99) for _ in numbers]
        for number in range(1, chooser.randint(9, 16))
    ]
    question, query = _question(schema, chooser)
    result = _run(schema.ddl, rows, query)
    assert result is not None, query
    prompt = (
        f"{schema.ddl};\n\nWrite one SQLite query that answers the question. "
        f"Reply with the query only.\n\nQuestion: {question}"
    )
    return {
        "prompt": prompt,
        "answer": query,
        "ddl": schema.ddl,
        "rows": rows,
        "is_ordered": "ORDER BY" in query,
    }


def _question(schema: _Schema, chooser: random.Random) -> tuple[str, str]:
    """Draw what is shown, of which rows, and in which order or groups."""
    table = schema.table
    condition, where = _condition(schema, chooser)
    number = chooser.choice(schema.numbers)
    text = chooser.choice(schema.texts)
    kind = chooser.randrange(7)
    thing = table
    spoken = {name: name.replace("_", " ") for name in (*schema.texts, *schema.numbers)}
    if kind == 0:
        return f"How many {thing} {condition}?", f"SELECT COUNT(*) FROM {table} WHERE {where}"
    if kind == 1:
        function, word = chooser.choice((("AVG", "average"), ("SUM", "total")))
        return (
            f"What is the {word} {spoken[number]} of {thing} that {condition}?",
            f"SELECT {function}({number}) FROM {table} WHERE {where}",
        )
    if kind == 2:
        function, word = chooser.choice((("MAX", "highest"), ("MIN", "lowest")))
        return (
            f"For each {spoken[text]}, what is the {word} {spoken[number]}?",
            f"SELECT {text}, {function}({number}) FROM {table} GROUP BY {text} ORDER BY {text}",
        )
    if kind == 3:
        return (
            f"How many {thing} that {condition} are there for each {spoken[text]}?",
            f"SELECT {text}, COUNT(*) FROM {table} WHERE {where} GROUP BY {text} ORDER BY {text}",
        )
    if kind == 4:
        shown = [text, number]
        chooser.shuffle(shown)
        names = " and ".join(spoken[name] for name in shown)
        return (
            f"Show {names} of all {thing} that {condition}.",
            f"SELECT {', '.join(shown)} FROM {table} WHERE {where}",
        )
    limit = chooser.randint(2, 5)
    direction, word = chooser.choice((("DESC", "highest"), ("ASC", "lowest")))
    if kind == 5:
        return (
            f"List the {spoken[text]} of the {limit} {thing} with the {word} {spoken[number]}.",
            f"SELECT {text} FROM {table} ORDER BY {number} {direction}, id LIMIT {limit}",
        )
    bound = chooser.randint(1, 3)
    query = f"SELECT {text}, COUNT(*) FROM {table} GROUP BY {text}"
    return (
        f"Which {spoken[text]} have more than {bound} {thing}, and how many {thing} do they have?",
        f"{query} HAVING COUNT(*) > {bound} ORDER BY {text}",
    )


def _condition(schema: _Schema, chooser: random.Random) -> tuple[str, str]:
    parts = []
    for kind in chooser.sample(("text", "number"), chooser.randint(1, 2)):
        if kind == "text":
            name = chooser.choice(schema.texts)
            value = chooser.choice(_TABLES[schema.table][name])
            parts.append((f"have {name} {value}", f"{name} = '{value}'"))
            continue
        name, bound = chooser.choice(schema.numbers), chooser.randint(10, 90)
        sign, word = chooser.choice(((">", "above"), ("<", "below")))
        said = name.replace("_", " ")
        parts.append((f"have {said} {word} {bound}", f"{name} {sign} {bound}"))
    return " and ".join(said for said, _ in parts), " AND ".join(where for _, where in parts)


def is_right(row: Mapping[str, Any], answer: str) -> bool:
    """Whether a model's answer gives the same rows as the right one.

    Raises:
        SetupError: The prompt is none of `generate`'s.
    """
    try:
        ddl, rows, query, is_ordered = (row[n] for n in ("ddl", "rows", "answer", "is_ordered"))
    except KeyError as error:
        raise SetupError("the metric `sql` needs prompts that the step `sql` has made") from error
    meant, said = _run(ddl, rows, query), _run(ddl, rows, _query(answer))
    if meant is None or said is None:
        return False
    return meant == said if is_ordered else sorted(meant) == sorted(said)


def _query(answer: str) -> str:
    """Take the query out of a block of code, if it stands in one."""
    found = re.search(r"```(?:sql)?\s*(.*?)```", answer, re.DOTALL | re.IGNORECASE)
    return (found.group(1) if found else answer).strip()


def _run(ddl: str, rows: list[list[Any]], query: str) -> list[tuple[str, ...]] | None:
    """Run a query on a database of its own, in memory; None where it cannot be run."""
    steps = 0

    def tick() -> bool:
        nonlocal steps
        steps += 1
        return steps * 1000 > _MAX_STEPS

    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(ddl)
        connection.executemany(
            f"INSERT INTO {ddl.split()[2]} VALUES ({', '.join('?' * len(rows[0]))})",
            rows,
        )
        connection.execute("PRAGMA query_only = ON")
        connection.set_progress_handler(tick, 1000)
        connection.set_authorizer(_reads_only)
        found = connection.execute(query).fetchmany(_MAX_ROWS)
    except (sqlite3.Error, sqlite3.Warning, ValueError):
        return None
    finally:
        connection.close()
    # One form for 3 and 3.0, and an order among values of all kinds.
    return [tuple(_plain(value) for value in each) for each in found]


def _reads_only(action: int, *_: Any) -> int:
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else repr(value)
