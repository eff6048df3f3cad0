"""Flags, prompts, pieces, plots: what surrounds the training."""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.recipes.models import folder_of
from headstart.recipes.options import add_flags, from_flags, option
from headstart.recipes.pieces import cut, join
from headstart.recipes.plots import plot_metrics
from headstart.recipes.prompts import is_right, read_prompts
from headstart.stages.errors import SetupError
from headstart.stages.language import TAG


@dataclass(frozen=True, kw_only=True)
class Options:
    where: Path = option("a path")
    num_tries: int = option("a number", 3)
    most: float | None = option("may be unset", None)
    kind: str = option("one of two", "a", ("a", "b"))
    is_dry: bool = option("a switch", False)
    many: tuple[float, ...] = option("several numbers", (0.5, 1.0))
    language: str = option("a code", "de", form=TAG)


def parsed(*argv: str) -> Options:
    parser = argparse.ArgumentParser()
    add_flags(parser, Options)
    return from_flags(Options, parser.parse_args(argv))


def test_flags_are_the_fields_of_a_dataclass(capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed("--where", "x") == Options(where=Path("x"))
    assert parsed("--where", "x", "--num-tries", "5", "--most", "0.5", "--is-dry") == Options(
        where=Path("x"), num_tries=5, most=0.5, is_dry=True
    )
    assert parsed("--where", "x", "--many", "1", "2").many == (1.0, 2.0)
    for wrong, refusal in (
        (["--num-tries", "-1"], "--num-tries takes 0 or more, not -1"),
        (["--many", "1", "-2"], "--many takes 0 or more, not -2.0"),
        (["--most", "nan"], "--most takes 0 or more, not nan"),
        (["--language", "German"], "--language takes a code such as de or pt-BR, not 'German'"),
    ):
        with pytest.raises(SetupError, match=refusal):
            parsed("--where", "x", *wrong)
    for wrong in (["--num-tries", "5"], ["--where", "x", "--kind", "c"]):
        with pytest.raises(SystemExit):
            parsed(*wrong)
    capsys.readouterr()


def test_prompts_are_lines_or_rows(tmp_path: Path) -> None:
    plain = tmp_path / "prompts.txt"
    plain.write_text("One\n\nTwo\nThree\n")
    assert [each.id for each in read_prompts(plain)] == [0, 2, 3]
    assert [each.id for each in read_prompts(plain, 1, 2)] == [2]
    rows = tmp_path / "prompts.jsonl"
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    rows.write_text(
        json.dumps({"messages": chat}) + "\n" + json.dumps({"question": "1?", "answer": "1"}) + "\n"
    )
    first, second = read_prompts(rows)
    rows.write_text(json.dumps({"turns": ["Eins?", "Zwei?"]}))
    assert read_prompts(rows)[0].messages == ({"role": "user", "content": "Eins?"},)
    assert list(first.messages) == chat
    assert (second.messages[0]["content"], second.answer, first.answer) == ("1?", "1", None)


@pytest.mark.parametrize("line", ["[]", "{", '{"prompt": ""}', '{"messages": ["x"]}'])
def test_a_line_that_is_no_prompt_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "x"}\n' + line)

    with pytest.raises(SetupError, match="jsonl:2"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("answer", "right"),
    [("so 1,250 in all", True), ("#### $1250.00", True), ("1250 - 1 = 1249", False), ("?", False)],
)
def test_the_last_number_counts(tmp_path: Path, answer: str, right: bool) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"question": "?", "answer": "2 + 3\\n#### 1250"}')

    assert is_right("gsm8k", read_prompts(path)[0], answer) == right


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=3), st.integers(100, 20_000))
def test_pieces_are_small_and_make_the_folder_again(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], most: int
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "model").mkdir()
    for number, content in enumerate(contents):
        (folder / "model" / str(number)).write_bytes(content)

    cut(folder / "model", folder / "cut", most)
    made = join(folder / "cut", "model", folder / "again")

    assert [(made / str(n)).read_bytes() for n in range(len(contents))] == contents
    pieces = sorted((folder / "cut").glob("model.[0-9]*"))
    assert all(piece.stat().st_size <= most for piece in pieces)
    pieces[-1].write_bytes(pieces[-1].read_bytes()[:-1])
    with pytest.raises(SetupError, match="not whole"):
        join(folder / "cut", "model", folder / "broken")


def test_metrics_become_a_picture(tmp_path: Path) -> None:
    lines = [{"samples": n, "consistency": 1 / n, "autoregressive": 1.0} for n in range(1, 9)]

    assert plot_metrics([*lines, {"train_runtime": 1.0}], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


BARE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"msgspec", "pydantic", "ray", "structlog", "vllm", "zmq"}:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Absent())
import headstart.recipes.consistency_training, headstart.recipes.collecting
import headstart.recipes.evaluating, headstart.recipes.exporting, headstart.cluster.merged_model
import headstart.recipes.corpus, headstart.recipes.distilling, headstart.recipes.drafter_training
import headstart.recipes.trimming, headstart.recipes.drafter_exporting, headstart.recipes.drafter
"""


def test_a_machine_that_only_trains_needs_none_of_the_server_s_packages() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BARE], capture_output=True, check=False
    )

    assert ended.returncode == 0, ended.stderr.decode()


@pytest.mark.parametrize("source", ["nothere", "builtin:smollm2-135m-instruct", "org/name"])
def test_a_source_that_takes_the_server_s_packages_says_so(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "structlog", None)
    monkeypatch.delitem(sys.modules, "headstart.cluster.model_source", raising=False)

    with pytest.raises(SetupError, match=rf"^{source} is no folder .*\(structlog\): give a folder"):
        folder_of(source)
