"""What a replica's process is born with: threads and cores as the settings say."""

from types import SimpleNamespace

import pytest

from headstart.cluster import launch_adapter
from headstart.configs.model_settings import ModelSettings


def model(**fields: object) -> ModelSettings:
    return ModelSettings.model_validate({"name": "smol", "source": "org/smol"} | fields)


@pytest.mark.parametrize(
    ("cores", "threads", "places"), [("1", "1", "[1]"), ("0-2,5", "4", "[0,1,2,5]")]
)
def test_one_process_binds_its_threads_itself(cores: str, threads: str, places: str) -> None:
    environment = launch_adapter.engine_environment(model(), cores)
    assert environment["OMP_NUM_THREADS"] == threads
    assert environment["KMP_AFFINITY"] == f"granularity=fine,explicit,proclist={places}"


def test_ranks_are_bound_by_vllm() -> None:
    environment = launch_adapter.engine_environment(model(), "0-1|2-3")
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "0-1|2-3"
    assert "OMP_NUM_THREADS" not in environment


def test_without_cores_nothing_is_bound() -> None:
    environment = launch_adapter.engine_environment(model(), None)
    assert not {"VLLM_CPU_OMP_THREADS_BIND", "OMP_NUM_THREADS", "KMP_AFFINITY"} & set(environment)


def test_arguments_are_those_of_vllm_serve() -> None:
    engine_args = {"enforce_eager": True, "enable_prefix_caching": False, "seed": 3}
    argv = launch_adapter.engine_argv(model(block_size=64, engine_args=engine_args), "folder")
    assert {"--model=folder", "--served-model-name=smol", "--block-size=64"} <= set(argv)
    assert {"--enforce-eager", "--no-enable-prefix-caching", "--seed=3"} <= set(argv)
    assert not any(argument.startswith("--max-model-len") for argument in argv)


@pytest.mark.parametrize(
    ("fields", "backend"),
    [
        ({}, "uni"),
        ({"gpus_per_replica": 0.5}, "uni"),
        ({"gpus_per_replica": 2, "engine_args": {"tensor_parallel_size": 2}}, "mp"),
        (
            {
                "gpus_per_replica": 4,
                "engine_args": {"tensor_parallel_size": 2, "pipeline_parallel_size": 2},
            },
            "mp",
        ),
    ],
)
def test_ranks_stay_inside_the_actor_that_holds_their_gpus(
    fields: dict[str, object], backend: str
) -> None:
    argv = launch_adapter.engine_argv(model(**fields), "folder")
    assert f"--distributed-executor-backend={backend}" in argv


def test_worker_is_ours_on_cpu_and_where_something_is_drafted() -> None:
    def worker(**fields: object) -> list[str]:
        argv = launch_adapter.engine_argv(model(**fields), "folder")
        return [each for each in argv if each.startswith("--worker-cls=")]

    plain = [f"--worker-cls={launch_adapter.PLAIN_WORKER}"]
    assert worker(block_size=16) == worker(block_size=32) == plain
    assert worker(block_size=16, speculation={}) == [f"--worker-cls={launch_adapter.WORKER}"]
    assert not worker(block_size=16, gpus_per_replica=1)


def test_gpu_replica_is_bound_by_cores_and_gets_no_cpu_preload() -> None:
    environment = launch_adapter.engine_environment(model(gpus_per_replica=1), None)
    assert "LD_PRELOAD" not in environment


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_each_replica_has_the_cores_of_its_rank(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    serve = pytest.importorskip("ray.serve")
    from headstart.cluster.replica import Replica

    context = SimpleNamespace(rank=SimpleNamespace(rank=rank))
    monkeypatch.setattr(serve, "get_replica_context", lambda: context)
    lists = ["0-1", "2,3", "4"]

    assert Replica._cores(model(replicas=3, cores=lists)) == lists[rank]
    assert Replica._cores(model(replicas=3)) is None
