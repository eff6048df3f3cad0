"""What vLLM is started with, as its own parser and its own code read it."""

import inspect
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headstart.cluster.prepared_model import TELLING_NAMES
from headstart.configs.model_settings import ModelSettings
from headstart.configs.speculation import SpeculationSettings
from headstart.stages.errors import SetupError


@pytest.fixture(autouse=True)
def _quietly(vllm_model: ModelSettings) -> Iterator[None]:
    """Import vLLM in the environment that an engine would, whatever its imports warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_arguments_that_are_set_exist(vllm_model: ModelSettings) -> None:
    """The adapter speaks to vLLM's own parser, so one parse tries every flag."""
    from headstart.cluster import launch_adapter

    args = launch_adapter.engine_arguments(vllm_model, "model")

    assert args.served_model_name == [vllm_model.name]
    assert args.block_size == vllm_model.block_size
    assert args.max_model_len == vllm_model.max_model_len
    assert args.distributed_executor_backend == "uni"
    assert args.enable_scale_out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"bogus": 1}, "unrecognized arguments: --bogus=1"),
        ({"max_num_seqs": "many"}, "argument --max-num-seqs: invalid int value: 'many'"),
    ],
)
def test_refused_argument_is_named_in_one_line(
    vllm_model: ModelSettings, arguments: dict[str, Any], why: str
) -> None:
    from headstart.cluster import launch_adapter

    model = vllm_model.model_copy(update={"engine_args": arguments})

    with pytest.raises(SetupError) as caught:
        launch_adapter.engine_arguments(model, "model")

    assert caught.value.message == f"vLLM refuses models.{model.name}.engine_args: {why}"


def test_installed_logits_processor_is_refused_where_drafts_would_escape_it(
    vllm_model: ModelSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.cluster import launch_adapter

    told = tmp_path / "quiet_words-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: quiet-words\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text("[vllm.logits_processors]\nquiet = quiet_words:Quiet\n")
    speculating = vllm_model.model_copy(update={"speculation": SpeculationSettings()})
    launch_adapter.engine_argv(speculating, str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(SetupError, match=r"logits processors quiet \(quiet_words:Quiet\)"):
        launch_adapter.engine_argv(speculating, str(tmp_path))
    launch_adapter.engine_argv(vllm_model, str(tmp_path))


def test_vllm_drops_a_plan_of_drafts_where_data_is_parallel(vllm_model: ModelSettings) -> None:
    """So both together are refused; where it keeps the plan they need not be."""
    from vllm.config import VllmConfig

    speculative: Any = SimpleNamespace(
        uses_dynamic_speculative_decoding=lambda: True,
        num_speculative_tokens=4,
        num_speculative_tokens_per_batch_size=[(1, 1, 4)],
    )
    kept = []
    for size in (1, 2):
        parallel = SimpleNamespace(data_parallel_size=size)
        config: Any = SimpleNamespace(speculative_config=speculative, parallel_config=parallel)
        VllmConfig._maybe_disable_dynamic_sd_for_data_parallel(config)
        kept.append(speculative.num_speculative_tokens_per_batch_size is not None)

    assert kept == [True, False]


def test_vllm_goes_by_the_path_of_a_drafter_where_we_think(vllm_model: ModelSettings) -> None:
    from vllm.config import speculative

    text = inspect.getsource(speculative)

    found = re.findall(r'"(\S+)" in self\.draft_model_config\.model\.lower\(\)', text)
    assert found == list(TELLING_NAMES)
