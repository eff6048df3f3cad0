"""A killed run goes on where it was."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from headstart.benchmarks.checkpoint import Checkpoint
from headstart.stages.errors import SetupError

RUN = {"commit": "abc", "plan": {"num": 2}}


@dataclass(frozen=True, slots=True)
class Thing:
    name: str
    times_s: list[float]


def test_what_was_measured_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "out.checkpoint.jsonl"
    first = Checkpoint(path, RUN)
    assert first.get("one", Thing) is None
    first.put("one", Thing("é\u2028", [0.1, 0.2]))
    again = Checkpoint(path, RUN)
    assert again.num_resumed == 1
    assert again.get("one", Thing) == Thing("é\u2028", [0.1, 0.2])
    again.put("two", 3.5)
    assert Checkpoint(path, RUN).get("two", float) == 3.5


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_line_that_was_being_written_is_left_out(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "out"
    Checkpoint(path, RUN).put("one", Thing("kept", [1.0]))
    whole = path.read_bytes()
    Checkpoint(path, RUN).put("two", Thing("cut", [1.0]))
    path.write_bytes(path.read_bytes()[:-cut])
    again = Checkpoint(path, RUN)
    assert again.num_resumed == 1
    assert path.read_bytes() == whole
    again.put("two", 1.0)
    assert Checkpoint(path, RUN).num_resumed == 2


def test_a_head_that_was_being_written_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b'{"run":')
    Checkpoint(path, RUN).put("one", 1.0)
    assert Checkpoint(path, RUN).get("one", float) == 1.0


def test_another_run_is_refused_and_its_file_kept(tmp_path: Path) -> None:
    path = tmp_path / "out"
    Checkpoint(path, RUN).put("one", 1.0)
    before = path.read_bytes()
    with pytest.raises(SetupError, match="of another run"):
        Checkpoint(path, RUN | {"commit": "def"})
    assert path.read_bytes() == before


def test_the_end_of_a_run_removes_it(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "out", RUN)
    checkpoint.remove()
    assert not list(tmp_path.iterdir())
