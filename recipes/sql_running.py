"""Queries on made-up databases, run by sqlite3, and whether a model's gives the right rows."""

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from headstart.stages.errors import SetupError

__all__ = ["Found", "is_right", "opened", "same"]

_MAX_ROWS = 200
_MAX_STEPS = 1_000_000
"""Of sqlite's virtual machine: an answer may not run for ever."""

_MAX_BYTES = 100_000
"""Of a value or a row: one function makes a gigabyte in a step."""

Found = list[tuple[str, ...]] | None
"""Rows, each value in one form; None where a query cannot be run."""


def is_right(row: Mapping[str, Any], answer: str) -> bool:
    """Whether a model's answer gives the same rows as the right one, in every database.

    Raises:
        SetupError: The prompt is none of the step `sql`'s.
    """
    try:
        ddl, databases, query, is_ordered = (
            row[name] for name in ("ddl", "databases", "answer", "is_ordered")
        )
    except KeyError as error:
        raise SetupError("the metric `sql` needs prompts that the step `sql` has made") from error
    said = _query(answer)
    for rows in databases:
        with opened(ddl, rows) as run:
            if not same(run(query), run(said), is_ordered=is_ordered):
                return False
    return True


def same(meant: Found, said: Found, *, is_ordered: bool) -> bool:
    """Whether two queries that could be run gave the same rows."""
    if meant is None or said is None:
        return False
    return meant == said if is_ordered else sorted(meant) == sorted(said)


def _query(answer: str) -> str:
    """Take the query out of a block of code, if it stands in one."""
    found = re.search(r"```(?:sql)?\s*(.*?)```", answer, re.DOTALL | re.IGNORECASE)
    return (found.group(1) if found else answer).strip()


class _Run:
    """Runs queries that only read, each within its limit."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._steps = 0
        connection.execute("PRAGMA query_only = ON")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_BYTES)
        connection.set_progress_handler(self._tick, 1000)
        connection.set_authorizer(_reads_only)

    def _tick(self) -> bool:
        self._steps += 1
        return self._steps * 1000 > _MAX_STEPS

    def __call__(self, query: str) -> Found:
        self._steps = 0
        try:
            found = self._connection.execute(query).fetchmany(_MAX_ROWS)
        except (sqlite3.Error, sqlite3.Warning, ValueError):
            return None
        # One form for 3 and 3.0, and an order among values of all kinds.
        return [tuple(_plain(value) for value in each) for each in found]


@contextmanager
def opened(ddl: str, rows: Sequence[Sequence[Any]]) -> Iterator[_Run]:
    """Make a database of its own, in memory."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(ddl)
        places = ", ".join("?" * len(rows[0]))
        insert = f"INSERT INTO {ddl.split()[2]} VALUES ({places})"  # noqa: S608 - of our own
        connection.executemany(insert, rows)
        yield _Run(connection)
    finally:
        connection.close()


def _reads_only(action: int, *_: Any) -> int:
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else repr(value)
