"""The shipped profiles load, and say what their first line promises."""

from importlib import resources
from pathlib import Path

import pytest

from headstart.configs.settings import Settings, SettingsError, load

FOLDER = Path(str(resources.files("headstart.configs")))
SECRET = {"HEADSTART_DATA_PLANE__SECRET": "0123456789abcdef"}


def _profile(name: str) -> Settings:
    return load(FOLDER / f"{name}.yaml", [], SECRET)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_profile_loads(path: Path) -> None:
    assert load(path, [], SECRET).models


def test_laptop_serves_the_small_real_model_on_one_core() -> None:
    (model,) = _profile("laptop").models

    assert (model.engine, model.source) == ("vllm", "builtin:smollm2-135m-instruct")
    assert (model.cores, model.gpus_per_replica, model.block_size) == (("1",), 0, 16)


def test_gpu_profile_gives_each_replica_a_gpu() -> None:
    (model,) = _profile("gpu").models

    assert (model.replicas, model.gpus_per_replica, model.block_size) == (2, 1, 16)


def test_cluster_profile_joins_and_insists_on_a_secret() -> None:
    assert _profile("cluster").ray.address == "auto"
    with pytest.raises(SettingsError, match=r"data_plane\.secret: is required with ray\.address"):
        load(FOLDER / "cluster.yaml", [], {})


def test_fake_profile_is_the_only_one_with_the_fake_engine() -> None:
    engines = {
        path.stem: {model.engine for model in _profile(path.stem).models}
        for path in FOLDER.glob("*.yaml")
    }

    assert [name for name, kinds in engines.items() if "fake" in kinds] == ["fake"]
