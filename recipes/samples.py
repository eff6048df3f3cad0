"""Samples on disk: appended line by line, so that a killed run goes on where it was."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headstart.recipes.trajectories import Block, blocks_of
from headstart.stages.errors import SetupError

__all__ = [
    "Answer",
    "Lines",
    "Sample",
    "SampleFile",
    "answers_in",
    "card_of",
    "claim",
    "read_card",
    "write_folder",
    "write_json",
]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says to a prompt."""

    id: int
    """The prompt's line."""
    prompt: list[int]
    answer: list[int]
    has_ended: bool
    """Whether its last token ends it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer and the trajectories of its blocks."""

    id: int
    prompt: list[int]
    answer: list[int]
    block_tokens: int
    offset: int
    """Tokens of the answer before the first block."""
    tails: list[list[list[int]]]
    """Of each block its states in order, each from its first wrong token on."""
    counts: dict[str, Any] = field(default_factory=dict)
    """What the trajectories gained, for the card."""

    @property
    def tokens(self) -> list[int]:
        return [*self.prompt, *self.answer]

    @property
    def blocks(self) -> list[Block]:
        if not self.tails:
            return []
        return blocks_of(len(self.prompt), len(self.answer), self.block_tokens, self.offset)


class Lines:
    """A file of JSON lines that grows.

    A last line that a killed run left unfinished is cut off.

    Args:
        path: The file; made, with its folder, if missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        path.touch()
        with path.open("r+b") as file:
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield _row(self._path, number, line)

    def add(self, rows: Sequence[Any]) -> None:
        """Append dataclasses or mappings, and have them on disk before returning.

        Raises:
            SetupError: They cannot be written; those before are safe.
        """
        plain = [row if isinstance(row, dict) else asdict(row) for row in rows]
        text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in plain)
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SetupError(
                f"{self._path} cannot be written ({error.strerror}): free space there, then run "
                "the same command again; what is done is kept"
            ) from error


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        row = error
    if not isinstance(row, dict):
        raise SetupError(f"{path}:{number} is damaged: remove that line, and run its step again")
    return row


def answers_in(path: Path) -> Iterator[Answer]:
    """Read answers one after the other.

    Raises:
        SetupError: There is no such file, or a line is no answer.
    """
    if not path.is_file():
        raise SetupError(f"{path} is not there: run the step that makes it")
    for number, row in enumerate(Lines(path), start=1):
        try:
            yield Answer(**row)
        except TypeError as error:
            raise SetupError(f"{path}:{number} is no answer of a model's: {error}") from error


class SampleFile:
    """Samples read one at a time, in any order.

    Raises:
        SetupError: There are none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begins: list[int] = []
        try:
            with path.open("rb") as file:
                begin = 0
                for line in file:
                    if line.endswith(b"\n"):
                        self._begins.append(begin)
                    begin += len(line)
        except OSError as error:
            raise SetupError(
                f"{path} cannot be read ({error.strerror}): run the step that makes it"
            ) from error
        if not self._begins:
            raise SetupError(f"{path} holds no sample: take more or other prompts")

    def __len__(self) -> int:
        return len(self._begins)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        with self._path.open("rb") as file:
            file.seek(self._begins[index])
            return Sample(**json.loads(file.readline()))


def write_json(path: Path, value: Any) -> None:
    """Write a value as a file that is either the old one or whole."""
    write_file(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_file(path: Path, data: bytes) -> None:
    """Write a file that is either the old one or whole.

    Raises:
        SetupError: It cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise SetupError(f"{path} cannot be written: {error.strerror}") from error


def write_folder(out: Path, mark: str, write: Callable[[Path], None]) -> None:
    """Make a folder that is either the old one or whole.

    Args:
        mark: A file that every such folder has: no other folder is replaced.
        write: Writes the files.

    Raises:
        SetupError: They cannot be written, or the folder is something else.
    """
    partial = out.with_name(out.name + ".partial")
    if out.exists() and not (out / mark).is_file():
        raise SetupError(f"{out} is there and has no {mark}: give another --out")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, SetupError):
            raise
        raise SetupError(f"{out} cannot be written ({error}): free space there") from error


def card_of(head: Mapping[str, Any], title: str, said: str, shown: Mapping[str, Any]) -> str:
    """Return a model card: YAML that programs read, a sentence and a table for people.

    Args:
        head: `headstart` in it is what the server reads.
        shown: Rows of the table; those of None are left out.
    """
    import yaml

    rows = [f"| {name} | {value} |" for name, value in shown.items() if value is not None]
    yaml_head = yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True).rstrip()
    lines = ["---", yaml_head, "---", f"# {title}", "", said, "", "| | |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"


def claim(out: Path, identity: dict[str, Any]) -> None:
    """Note what a folder is for; refuse one that is for something else.

    Raises:
        SetupError: It was begun with other options, or the note is damaged.
    """
    note = out / "run.json"
    if not note.exists():
        write_json(note, identity)
        return
    try:
        before = dict(json.loads(note.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise SetupError(f"{note} is damaged ({error}): give another --out") from error
    names = [*identity, *(name for name in before if name not in identity)]
    others = [name for name in names if before.get(name) != identity.get(name)]
    if others:
        raise SetupError(
            f"{out} was begun with other {', '.join(others)}: give another --out, or remove it"
        )


def read_card(folder: Path, *needed: str, step: str = "the step that makes it") -> dict[str, Any]:
    """Read a folder's data card.

    Args:
        needed: What the card of such a folder says.
        step: That makes such folders.

    Raises:
        SetupError: There is none, it is damaged, or another step's.
    """
    if folder.is_file():
        raise SetupError(f"{folder} is a file: give the folder that {step} made")
    try:
        card = dict(json.loads((folder / "card.json").read_bytes()))
    except FileNotFoundError as error:
        raise SetupError(f"{folder} has no card.json: {step} has not ended there") from error
    except (OSError, ValueError, TypeError) as error:
        raise SetupError(f"{folder / 'card.json'} is damaged ({error}): make it again") from error
    if missing := set(needed) - card.keys():
        raise SetupError(f"{folder} is not what {step} makes: its card.json says no {min(missing)}")
    return card
