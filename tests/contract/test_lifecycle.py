"""Engines that start badly, or not at all, still close."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from headstart.cluster.fake_engine import FakeEngine
from headstart.cluster.remote_engine import RemoteEngine
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import DataPlaneSettings
from headstart.stages.errors import EngineLost, SetupError
from tests.contract.conftest import ENGINE
from tests.support.streams import stream_table
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

NOBODY = "tcp://127.0.0.1:1"
SETTINGS = DataPlaneSettings(secret=SecretStr("a-secret-for-tests-only"), ping_interval_s=0.01)


async def test_close_without_start(fake_model: ModelSettings) -> None:
    for engine in (
        FakeEngine(fake_model, stream_table()),
        RemoteEngine(NOBODY, stream_table(), SETTINGS),
    ):
        await soon(engine.close())
        await soon(engine.close())


async def test_replica_that_does_not_answer() -> None:
    losses: list[None] = []
    engine = RemoteEngine(NOBODY, stream_table(), SETTINGS, lambda: losses.append(None))

    with pytest.raises(EngineLost, match="does not answer"):
        await soon(engine.start())

    assert not engine.is_up
    assert len(losses) == 1
    await soon(engine.close())
    await soon(engine.close())
    assert len(losses) == 1


@pytest.mark.engine
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings(*(mark.args[0] for mark in ENGINE if mark.name == "filterwarnings"))
async def test_vllm_without_weights(vllm_model: ModelSettings, tmp_path: Path) -> None:
    from headstart.cluster.vllm_engine import VllmEngine

    engine = VllmEngine(vllm_model, str(tmp_path), stream_table())

    with pytest.raises(SetupError, match=tmp_path.name):
        await engine.start()

    await soon(engine.close())
    await soon(engine.close())
