"""The stages within an engine, on a real vLLM: a delay shows where it was put, and nowhere else.

One engine for all, made of parts that take their time when a request asks them to
(tests/support/doubles). What is before and after an engine: test_injected_delays.py.
"""

import json
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from headstart.cluster.engine import Engine, EngineRequest
from headstart.configs.model_settings import ModelSettings
from headstart.stages.stage_clock import Stage
from tests.support.delays import Took, check, least
from tests.support.gateway import CHAT, saying, table
from tests.support.waiting import soon

pytestmark = [pytest.mark.anyio, pytest.mark.engine, pytest.mark.timeout(600)]

DELAY_S = 1.0
NUM_TOKENS = 4
DOUBLES = Path(__file__).parents[1] / "support" / "doubles"
IN_THE_ENGINE = [
    Stage.TOKENISE,
    Stage.QUEUE,
    Stage.PREFILL,
    Stage.DECODE,
    Stage.DETOKENISE,
    Stage.FRAME,
]
_numbers = count()


class SlowLogger:
    """A vLLM stat logger: runs between a step's detokenising and whoever waits for its text."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        """Once a request has finished."""

    def factory(self, *_: Any) -> Any:
        """Make the logger."""
        from vllm.v1.metrics.loggers import StatLoggerBase

        slow = self

        class Logger(StatLoggerBase):
            def __init__(self) -> None:
                pass

            def record(
                self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any
            ) -> None:
                if iteration_stats is not None and iteration_stats.finished_requests:
                    time.sleep(slow.delay_s)

            def log_engine_initialized(self) -> None:
                pass

        return Logger()


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Iterator[ModelSettings]:
    """A model with slow parts, and the environment for it."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from headstart.cluster import launch_adapter

    model = ModelSettings(
        name="slow",
        source=str(tiny_model),
        dtype="float32",
        max_model_len=256,
        engine_args={
            "enforce_eager": True,
            "worker_cls": "slow_vllm.SlowWorker",
            "scheduler_cls": "slow_vllm.SlowScheduler",
            "middleware": "slow_vllm.SlowApp",
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in launch_adapter.engine_environment(model, cores=None).items():
            patch.setenv(name, value)
        patch.syspath_prepend(DOUBLES)
        yield model


@pytest.fixture(scope="module")
def logger() -> SlowLogger:
    return SlowLogger()


@pytest.fixture(scope="module")
async def engine(model: ModelSettings, logger: SlowLogger) -> AsyncIterator[Engine]:
    from headstart.cluster.vllm_engine import VllmEngine

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what vLLM's imports warn of is not ours to mend
        engine = VllmEngine(model, model.source, table(), (logger.factory,))
        await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="module")
async def usual(engine: Engine) -> Took:
    """What a request takes that nothing holds up."""
    await ask(engine)
    return await least(lambda: ask(engine))


async def ask(
    engine: Engine, headers: dict[str, float] | None = None, xargs: dict[str, float] | None = None
) -> Took:
    """Have one streamed answer."""
    body = saying(stream=True, max_completion_tokens=NUM_TOKENS, temperature=0, ignore_eos=True)
    body |= {"model": "slow"} | ({"vllm_xargs": xargs} if xargs else {})
    fields = {"content-type": "application/json"} | {
        name: str(value) for name, value in (headers or {}).items()
    }
    began = time.monotonic()
    stream = engine.serve(
        EngineRequest(
            f"slow-{next(_numbers)}",
            "POST",
            CHAT,
            tuple(fields.items()),
            json.dumps(body).encode(),
        )
    )
    await soon(stream.finished())
    whole_s = time.monotonic() - began
    assert stream.end is not None
    assert stream.end.output_tokens == NUM_TOKENS, stream.log.read(0)
    stages = stream.clock.durations()
    return Took({stage.value: span for stage, span in stages.items()}, whole_s)


async def test_undisturbed_request_passes_every_stage(usual: Took) -> None:
    assert list(usual.stages_s) == IN_THE_ENGINE
    assert sum(usual.stages_s.values()) == pytest.approx(usual.whole_s, abs=0.05)


@pytest.mark.parametrize("stage", [Stage.TOKENISE, Stage.FRAME])
async def test_delay_in_the_app(engine: Engine, usual: Took, stage: Stage) -> None:
    await check(stage, usual, lambda: ask(engine, {f"x-{stage}-delay-s": DELAY_S}), DELAY_S)


@pytest.mark.parametrize("stage", [Stage.QUEUE, Stage.PREFILL, Stage.DECODE])
async def test_delay_in_the_core(engine: Engine, usual: Took, stage: Stage) -> None:
    await check(stage, usual, lambda: ask(engine, xargs={f"{stage}_delay_s": DELAY_S}), DELAY_S)


async def test_delay_before_the_text_is_there(
    engine: Engine, usual: Took, logger: SlowLogger
) -> None:
    logger.delay_s = DELAY_S
    try:
        await check(Stage.DETOKENISE, usual, lambda: ask(engine), DELAY_S)
    finally:
        logger.delay_s = 0.0
