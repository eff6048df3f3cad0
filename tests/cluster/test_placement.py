"""What the settings ask of a cluster, and what is refused before anything waits for it."""

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from headstart.cluster.placement import CPU, GPU, actor_options, check_room
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings, load
from headstart.stages.errors import SetupError

KINDS = (GPU, CPU)
SECRET = {"HEADSTART_DATA_PLANE__SECRET": "0123456789abcdef"}


def model(**fields: Any) -> ModelSettings:
    return ModelSettings.model_validate({"name": "m", "engine": "fake"} | fields)


def pair(**fields: Any) -> ModelSettings:
    """A model whose engine has two ranks."""
    return model(gpus_per_replica=2, engine_args={"tensor_parallel_size": 2}, **fields)


def profile(name: str) -> Settings:
    folder = Path(str(resources.files("headstart.configs")))
    return load(folder / f"{name}.yaml", [], SECRET)


@pytest.mark.parametrize(
    ("models", "nodes"),
    [
        ([model()], [{}]),
        ([model(replicas=2, gpus_per_replica=1)], [{GPU: 2}]),
        ([model(replicas=2, gpus_per_replica=1)], [{GPU: 1}, {GPU: 1, CPU: 4}]),
        ([model(replicas=4, gpus_per_replica=0.5)], [{GPU: 2}]),
        ([model(replicas=10, gpus_per_replica=0.1)], [{GPU: 1}]),
        ([pair(), model(name="n", gpus_per_replica=1)], [{GPU: 4}]),
        ([model(num_cpus_per_replica=2)], [{CPU: 2}]),
    ],
)
def test_what_fits_is_accepted(models: list[ModelSettings], nodes: list[dict[str, float]]) -> None:
    check_room(models, nodes, "the cluster", KINDS)


@pytest.mark.parametrize(
    ("models", "nodes", "words"),
    [
        ([model(replicas=2, gpus_per_replica=1)], [{CPU: 64}], "ask for 2 GPUs and here has 0"),
        ([model(replicas=2, gpus_per_replica=1)], [], "ask for 2 GPUs and here has 0"),
        (
            [pair()],
            [{GPU: 1}, {GPU: 1}],
            "1 replicas of 2 GPUs on one node each, and here has room for 0",
        ),
        ([model(replicas=3, gpus_per_replica=0.6)], [{GPU: 2}], "has room for 2"),
        ([model(num_cpus_per_replica=8)], [{CPU: 2}], "ask for 8 CPUs and here has 2.*num_cpus"),
    ],
)
def test_what_can_never_fit_is_refused_with_the_figures(
    models: list[ModelSettings], nodes: list[dict[str, float]], words: str
) -> None:
    with pytest.raises(SetupError, match=words):
        check_room(models, nodes, "here", KINDS)


def test_each_replica_asks_for_all_its_gpus_at_once() -> None:
    assert actor_options(pair(num_cpus_per_replica=4)) == {"num_cpus": 4, "num_gpus": 2}
    assert actor_options(model()) == {"num_cpus": 0}


@pytest.mark.parametrize(("name", "gpus"), [("gpu", 2), ("cluster", 6)])
def test_profiles_say_how_many_gpus_they_need(name: str, gpus: int) -> None:
    models = profile(name).models

    check_room(models, [{GPU: gpus, CPU: 64}], "here", KINDS)
    with pytest.raises(SetupError, match=f"ask for {gpus} GPUs and here has {gpus - 1}: lower"):
        check_room(models, [{GPU: gpus - 1, CPU: 64}], "here", KINDS)


@pytest.mark.parametrize("name", ["gpu", "cluster", "laptop", "fake"])
def test_serve_application_of_each_profile_can_be_built(name: str) -> None:
    pytest.importorskip("ray")
    from headstart.cluster import serve_app

    settings = profile(name)
    for one in settings.models:
        application = serve_app.build(settings, one)
        deployment = application._bound_deployment
        assert deployment.num_replicas == one.replicas
        assert (deployment.ray_actor_options or {}).items() >= actor_options(one).items()
