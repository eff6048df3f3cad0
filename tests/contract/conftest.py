"""The engines that the contract suite runs over.

To add an implementation, write a fixture that yields a `Subject` and name it in `SUBJECTS`.
"""

import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from headstart.cluster.data_plane import DataPlaneServer
from headstart.cluster.engine import Engine
from headstart.cluster.fake_engine import FakeEngine
from headstart.cluster.remote_engine import RemoteEngine
from headstart.cluster.stream import StreamTable
from headstart.configs.fields import default_cache_dir
from headstart.configs.model_settings import FakeEngineSettings, ModelSettings
from headstart.configs.settings import DataPlaneSettings
from headstart.stages.errors import SetupError
from tests.contract.asking import Subject
from tests.golden.vllm_answers import MODEL
from tests.support.streams import stream_table

CONTEXT = 2048

ENGINE = (
    pytest.mark.engine,
    pytest.mark.timeout(600),  # the first test to need vLLM waits for its start
    pytest.mark.filterwarnings("ignore:::vllm"),
)

SUBJECTS = [
    pytest.param("fake"),
    pytest.param("fake_on_the_data_plane"),
    pytest.param("vllm", marks=ENGINE),
    pytest.param("vllm_on_the_data_plane", marks=ENGINE),
]
"""Fixtures of this file, by name."""

CLOSABLE_SUBJECTS = [
    pytest.param("fake"),
    pytest.param("fake_on_the_data_plane"),
    pytest.param("vllm_of_its_own", marks=ENGINE),
    pytest.param("vllm_on_the_data_plane", marks=ENGINE),
]
"""Those that a test may close: starting vLLM takes too long to do it for each test."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One event loop for all, because an engine belongs to the loop that started it."""
    return "asyncio"


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each implementation in turn, started."""
    found: Subject = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=CLOSABLE_SUBJECTS)
def closable(request: pytest.FixtureRequest) -> Subject:
    """Each implementation in turn, started, for a test that closes it."""
    found: Subject = request.getfixturevalue(request.param)
    return found


@asynccontextmanager
async def started(engine: Engine) -> AsyncIterator[Subject]:
    try:
        yield Subject(engine, await engine.start())
    finally:
        await engine.close()


@asynccontextmanager
async def on_the_data_plane(behind: Subject, streams: StreamTable) -> AsyncIterator[Subject]:
    settings = DataPlaneSettings(secret=SecretStr("a-secret-for-tests-only"))
    server = DataPlaneServer(behind.engine, behind.info, streams, settings)
    address = f"tcp://127.0.0.1:{await server.start()}"
    try:
        async with started(RemoteEngine(address, stream_table(), settings)) as remote:
            yield remote
    finally:
        await server.close()


@pytest.fixture
def fake_model() -> ModelSettings:
    speeds = FakeEngineSettings(time_to_first_token_s=0.005, tokens_per_s=400)
    return ModelSettings(name="fake", engine="fake", max_model_len=CONTEXT, fake=speeds)


@pytest.fixture
async def fake(fake_model: ModelSettings) -> AsyncIterator[Subject]:
    async with started(FakeEngine(fake_model, stream_table())) as subject:
        yield subject


@pytest.fixture
async def fake_on_the_data_plane(fake_model: ModelSettings) -> AsyncIterator[Subject]:
    streams = stream_table()
    async with (
        started(FakeEngine(fake_model, streams)) as behind,
        on_the_data_plane(behind, streams) as remote,
    ):
        yield remote


@pytest.fixture(scope="session")
def vllm_model() -> Iterator[ModelSettings]:
    """The laptop profile's model, and the environment that vLLM needs for it."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from headstart.cluster import launch_adapter

    with pytest.MonkeyPatch.context() as patch:
        for name, value in launch_adapter.engine_environment(MODEL, cores=None).items():
            patch.setenv(name, value)
        yield MODEL


@pytest.fixture(scope="session")
def vllm_model_path(vllm_model: ModelSettings) -> Path:
    from headstart.cluster.model_source import resolve

    try:
        return resolve(vllm_model.source, default_cache_dir())
    except SetupError as error:
        pytest.skip(error.message)


@asynccontextmanager
async def started_vllm(
    model: ModelSettings,
    path: Path,
    streams: StreamTable,
    stat_loggers: tuple[Callable[..., Any], ...] = (),
) -> AsyncIterator[Subject]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports reach far beyond its own modules
        from headstart.cluster.vllm_engine import VllmEngine

        engine = VllmEngine(model, str(path), streams, stat_loggers)
        info = await engine.start()
    llm = engine._llm
    assert llm is not None
    try:
        yield Subject(engine, info)
    finally:
        await engine.close()
        # vLLM leaves this one to the garbage collector, which warns in somebody else's test.
        llm.engine_core.resources.ctx.destroy(linger=0)


@asynccontextmanager
async def started_pool(pool: ModelSettings, path: Path) -> AsyncIterator[Subject]:
    """An engine of a pool with a drafter, in the environment that it needs."""
    from headstart.cluster import launch_adapter

    with pytest.MonkeyPatch.context() as patch:
        for name, value in launch_adapter.engine_environment(pool, cores=None).items():
            patch.setenv(name, value)
        async with started_vllm(pool, path, stream_table()) as subject:
            yield subject


@pytest.fixture(scope="session")
def vllm_streams() -> StreamTable:
    return stream_table()


@pytest.fixture(scope="session")
async def vllm(
    vllm_model: ModelSettings, vllm_model_path: Path, vllm_streams: StreamTable
) -> AsyncIterator[Subject]:
    """One vLLM for all tests."""
    async with started_vllm(vllm_model, vllm_model_path, vllm_streams) as subject:
        yield subject


@pytest.fixture
async def vllm_on_the_data_plane(
    vllm: Subject, vllm_streams: StreamTable
) -> AsyncIterator[Subject]:
    async with on_the_data_plane(vllm, vllm_streams) as remote:
        yield remote


@pytest.fixture
async def vllm_of_its_own(
    vllm_model: ModelSettings, vllm_model_path: Path
) -> AsyncIterator[Subject]:
    async with started_vllm(vllm_model, vllm_model_path, stream_table()) as subject:
        yield subject


@pytest.fixture
def quiet_imports(vllm_model: ModelSettings) -> Iterator[None]:
    """Import vLLM in the environment that an engine would, whatever its imports warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
