"""Results of benchmarks as they lie on disk, small enough to be kept beside the page they make."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.benchmarks.machine import commits_since
from headstart.stages.errors import SetupError

__all__ = [
    "COMMON",
    "DECODING",
    "JOURNEY",
    "SOCKETS",
    "TRANSPORT",
    "Page",
    "Result",
    "Results",
    "Row",
    "Value",
    "keep",
    "load",
    "rows_of",
]


@dataclass(frozen=True, slots=True)
class Page:
    """What makes one page of docs/results."""

    name: str
    benchmarks: tuple[str, ...]
    measured: tuple[str, ...]
    """Folders whose commits make a result an old one."""


TRANSPORT = Page(
    "transport",
    ("transport", "transport-sockets", "browser", "quic-cost"),
    ("stages", "client", "pipeline"),
)
DECODING = Page(
    "decoding",
    ("decode", "decode-speed", "decode-plumbing", "decode-exact"),
    ("stages", "cluster"),
)
JOURNEY = Page("journey", ("journey",), ("stages", "cluster", "client", "pipeline"))
COMMON = (
    "no loss, RTT 100 ms",
    "random 10 %, RTT 100 ms",
    "random 20 %, RTT 300 ms",
    "dark for 5 s, RTT 100 ms",
)
"""Cells that simulator, real sockets and browser share."""
SOCKETS = ("transport", "transport-sockets")
"""Results that have that part."""
_DIGITS = 6
"""That are kept of a number."""

Value = str | float | int | None
Row = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one benchmark."""

    tree: dict[str, Any]
    """As `Report.to_json` writes it."""
    page: Page

    @property
    def name(self) -> str:
        return str(self.tree["name"])

    @property
    def command(self) -> str:
        """What made it."""
        quick = " --quick" if self.tree["mode"] == "quick" else ""
        return f"headstart bench {self.name} --json {self.name}.json{quick}"

    @property
    def age(self) -> str:
        """How far the code that it measured has gone on since, in words."""
        count = commits_since(self.tree["commit"], self.page.measured)
        if count is None:
            return "measured on other code"
        return f"{count} commits ago" if count else "this code"

    @property
    def checks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.tree["checks"]
        return found

    @property
    def titles(self) -> list[str]:
        """Of its tables."""
        return [str(table["title"]) for table in self.tree["tables"]]

    def rows(self, title: str) -> list[Row]:
        """A table's rows, by its title's beginning; none where there is no such table."""
        return [
            dict(zip(table["columns"], row, strict=True))
            for table in self.tree["tables"]
            if table["title"].startswith(title)
            for row in table["rows"]
        ]


Results = dict[str, Result]
"""By the benchmark's name."""


def rows_of(found: Results, name: str, title: str) -> list[Row]:
    """A table's rows; none where there is no such result."""
    return found[name].rows(title) if name in found else []


def load(folder: Path, page: Page) -> Results:
    """The newest result in a folder of each benchmark of a page, by name.

    Raises:
        SetupError: There is none, or something there is no result.
    """
    found: dict[str, Result] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            result = Result(_bare(json.loads(path.read_text(encoding="utf-8"))), page)
            name, date = result.name, result.tree["date"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SetupError(f"{path} is no result of `headstart bench`: {error!r}") from error
        # The page has the second part from a result of its own.
        name = "transport" if name == "transport-simulator" else name
        if name in page.benchmarks and (name not in found or date > found[name].tree["date"]):
            found[name] = result
    if not found:
        wanted = " or ".join(f"`headstart bench {name}`" for name in page.benchmarks)
        raise SetupError(f"no result in {folder}: {wanted} writes one")
    return {name: found[name] for name in page.benchmarks if name in found}


def keep(result: Result, folder: Path) -> None:
    """Write a result again, a row a line."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.tree, indent=1, ensure_ascii=False)
    lines: list[str] = []
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        # Rows of tables lie deep, and nobody reads them a cell a line.
        if depth > _ROW_DEPTH or (depth == _ROW_DEPTH and line.strip().startswith("]")):
            lines[-1] += line.strip()
        else:
            lines.append(line)
    (folder / f"{result.name}.json").write_text("\n".join(lines) + "\n", encoding="utf-8")


_ROW_DEPTH = 4


def _bare(value: Any) -> Any:
    """Leave out digits that mean nothing, and where files were on the machine that measured."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, str) and value.startswith("/"):
        return f"…/{Path(value).name}"
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return value
