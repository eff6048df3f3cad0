"""Our daemon and `vllm serve`, with the same settings, asked the same: every answer is the same.

Both in float32 and with one request at a time, so that greedy answers can be compared.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.golden.vllm_answers import MODEL
from tests.parity.answers import Answer, ask, by_choice, told_apart
from tests.parity.table import AT_ONCE, CASES, WANTED
from tests.support.daemon import running
from tests.support.real_model import real_model

pytestmark = [
    *(pytest.mark.anyio, pytest.mark.ray, pytest.mark.engine, pytest.mark.heavy),
    pytest.mark.timeout(600),  # the first one starts both servers
]

START_S = 240


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Our daemon."""
    real_model()
    folder = tmp_path_factory.mktemp("ours")
    config = folder / "config.yaml"
    config.write_text(f'{{"models": [{MODEL.model_dump_json(exclude_unset=True)}]}}')
    with running(config, folder) as daemon:
        daemon.wait_until_ready(START_S)
        yield daemon.url


@pytest.fixture(scope="module")
def theirs(ours: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`vllm serve`, after our daemon, so that two models do not load at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from headstart.benchmarks.servers import start_vllm

    folder = tmp_path_factory.mktemp("theirs")
    server = start_vllm(MODEL, str(real_model()), Path(folder))
    try:
        with server.arm.awake():
            yield server.url
    finally:
        server.arm.stop()


async def both(name: str, ours: str, theirs: str) -> tuple[Answer, Answer]:
    async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
        answers = []
        for url in (ours, theirs):
            client.base_url = httpx.URL(url)
            answers.append(await ask(client, CASES[name]))
    mine, other = answers
    return mine, other


@pytest.mark.parametrize("name", CASES)
async def test_same_answer(name: str, ours: str, theirs: str) -> None:
    mine, other = await both(name, ours, theirs)
    assert not mine.is_cut
    if name in WANTED:
        assert told_apart(mine, other), f"no longer different: {WANTED[name]}"
        return
    if name in AT_ONCE:
        mine, other = by_choice(mine), by_choice(other)
    lines = told_apart(mine, other)
    if lines and mine.status == other.status == httpx.codes.OK:
        # Two tokens that come at once share a chunk, which a busy machine does to either server.
        lines = told_apart(*await both(name, ours, theirs))
    assert lines == []


def test_wanted_differences_are_of_this_table() -> None:
    assert WANTED.keys() <= CASES.keys()
