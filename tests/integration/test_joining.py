"""A daemon on a Ray cluster that is not its own: it takes along only what it has brought."""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
import yaml

from tests.support.daemon import Daemon, running
from tests.support.events import text
from tests.support.ray_cluster import Cluster, ray_cluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SECRET = "only-holders-of-this-may-listen"
ASKED = {"messages": [{"role": "user", "content": "Hi!"}], "max_tokens": 20, "stream": True}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster() as cluster:
        yield cluster


def config(folder: Path, cluster: Cluster, **model: object) -> Path:
    """The settings of a daemon that joins."""
    path = folder / "settings.yaml"
    tree = {
        "models": [{"name": "fake", "engine": "fake", **model}],
        "ray": {"address": cluster.address},
        "data_plane": {"secret": SECRET},
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def joining(
    folder: Path,
    cluster: Cluster,
    token: str,
    environ: Mapping[str, str] | None = None,
    **model: object,
) -> AbstractContextManager[Daemon]:
    """A daemon of somebody who has put a token in the environment."""
    path = config(folder, cluster, **model)
    return running(path, folder, environ={"RAY_AUTH_TOKEN": token, **(environ or {})})


def test_it_joins_answers_and_leaves_the_cluster_as_it_was(
    cluster: Cluster, tmp_path: Path
) -> None:
    with joining(tmp_path, cluster, cluster.token, replicas=2) as daemon:
        daemon.wait_until_ready()
        with httpx.Client(base_url=daemon.url, timeout=240, trust_env=False) as client:
            for _ in range(4):
                answer = client.post("/v1/chat/completions", json=ASKED)
                assert len(text(answer.content).split()) == 20
            metrics = client.get("/metrics").text
        assert 'headstart_replicas{model="fake",state="up"} 2.0' in metrics
        assert cluster.applications() == ["headstart-fake"]

        ended = daemon.stop(signal.SIGTERM)

        assert (ended.status, ended.left) == (0, []), daemon.err
        assert "Traceback" not in daemon.err
    assert cluster.applications() == []


def test_gpus_that_the_cluster_lacks_are_named_in_seconds(cluster: Cluster, tmp_path: Path) -> None:
    joined = joining(tmp_path, cluster, cluster.token, replicas=3, gpus_per_replica=1)
    with joined as daemon:
        ended = daemon.ended(time.monotonic(), 60)

    assert (ended.status, ended.left) == (2, [])
    (line,) = (one for one in daemon.err.splitlines() if one.startswith("error: "))
    assert f"ask for 3 GPUs and the Ray cluster at {cluster.address} has 0: " in line
    assert ended.exit_s < 45  # most of it goes into importing and joining Ray


def test_token_that_the_cluster_does_not_know_is_refused_in_one_line(
    cluster: Cluster, tmp_path: Path
) -> None:
    # By itself Ray tries twenty times, a second apart.
    twice = {"RAY_NUM_REDIS_GET_RETRIES": "2"}
    with joining(tmp_path, cluster, "0" * 64, twice) as daemon:
        ended = daemon.ended(time.monotonic(), 60)

    assert (ended.status, ended.left) == (2, [])
    (line,) = (one for one in daemon.err.splitlines() if one.startswith("error: "))
    assert f"cannot join the cluster at {cluster.address}: " in line
    assert "RAY_AUTH_TOKEN" in line


def test_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    with running(config(tmp_path, Cluster("127.0.0.1:1")), tmp_path) as daemon:
        ended = daemon.ended(time.monotonic(), 60)

    assert ended.status == 2
    assert "error: no Ray cluster answers at 127.0.0.1:1: " in daemon.err
