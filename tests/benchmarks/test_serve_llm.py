"""A baseline that does not start is a reason in the report, not an error."""

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from headstart.benchmarks import overhead, serve_llm
from headstart.benchmarks.serve_llm import start_serve_llm
from headstart.configs.model_settings import ModelSettings
from headstart.stages.errors import SetupError

MODEL = ModelSettings(name="small", source="folder", engine_args={"enforce_eager": True})


def answers_with(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    argv = (sys.executable, "-c", code)
    monkeypatch.setattr(serve_llm, "command", lambda *_: argv)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('\"ModuleNotFoundError: pyarrow\"', flush=True); input()", "pyarrow"),
        ("raise SystemExit('no CPU here')", "no CPU here"),
    ],
)
def test_what_keeps_it_from_starting_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, reason: str
) -> None:
    answers_with(monkeypatch, code)
    with pytest.raises(SetupError, match=reason):
        start_serve_llm(MODEL, "folder", tmp_path)
    with ExitStack() as stack:
        found = overhead._rival(MODEL, "folder", tmp_path, stack)
    assert isinstance(found, str)
    assert reason in found
