"""What a daemon leaves behind: no word of a prompt or an answer, and no module under two names."""

import asyncio
import shutil
import signal
from dataclasses import dataclass

import pytest

from tests.support.asking import FAIL, SAID, WATCHING, ask_everything
from tests.support.daemon import running
from tests.support.real_model import real_model

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@dataclass
class Written:
    """What there is to read after a daemon has ended."""

    profile: str
    files: dict[str, str]
    answers: list[str]
    processes: dict[int, str]
    bare: list[str]
    engines: set[int]
    """Serve's processes, replicas among them, and vLLM's."""


@pytest.fixture(scope="module", params=["fake", pytest.param("laptop", marks=pytest.mark.engine)])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    if request.param == "laptop":
        real_model()
    folder, notes = tmp_path_factory.mktemp("daemon"), tmp_path_factory.mktemp("notes")
    environ = {
        "PYTHONPATH": str(WATCHING),
        "WATCH_FOLDER": str(notes),
        "WATCH_FAIL": FAIL,
        "VLLM_LOGGING_LEVEL": "DEBUG",
        "VLLM_DEBUG_LOG_API_SERVER_RESPONSE": "true",
    }
    overrides = ("logging.level=debug", "streams.max_stream_bytes=4194304")
    with running(request.param, folder, *overrides, environ=environ) as daemon:
        daemon.wait_until_ready()
        engines = {
            one.pid
            for one in daemon.living()
            if "ray::Serve" in " ".join(one.cmdline()) or "EngineCore" in one.name()
        }
        answers = asyncio.run(ask_everything(daemon.url))
        logs = daemon.ray_logs.resolve()
        assert daemon.stop(signal.SIGTERM).status == 0
        files = {
            str(path): path.read_text(errors="replace")
            for path in [folder / "out", folder / "err", *logs.rglob("*")]
            if path.is_file()
        }
        shutil.rmtree(logs.parent)
    return Written(
        request.param,
        files,
        answers,
        {int(one.name.partition("-")[2]): one.read_text() for one in notes.glob("process-*")},
        [one.read_text() for one in notes.glob("bare-*")],
        engines,
    )


def test_no_word_of_a_prompt_is_in_any_log(written: Written) -> None:
    found = [
        f"{path}: {line[:400]}"
        for path, content in written.files.items()
        for line in content.splitlines()
        if SAID in line
    ]
    assert found == []


def test_no_answer_is_in_any_log(written: Written) -> None:
    telling = [answer for answer in written.answers if len(answer.strip()) > 20]
    assert telling
    for answer in telling:
        assert not [path for path, content in written.files.items() if answer.strip() in content]


def test_what_failed_is_in_the_log_of_the_replica(written: Written) -> None:
    if written.profile != "fake":
        pytest.skip("vLLM's app answers 400 to what it cannot decode, and says no more")
    lines = [
        line for content in written.files.values() for line in content.splitlines() if FAIL in line
    ]
    assert lines == []
    assert any(
        "RuntimeError" in content and "sitecustomize" in content
        for path, content in written.files.items()
        if "worker-" in path
    )


def test_none_of_our_packages_is_imported_by_its_bare_name(written: Written) -> None:
    assert written.bare == []
    assert len(written.engines) >= 2
    assert written.engines <= set(written.processes)
