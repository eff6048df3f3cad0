"""The process that serves a model with `ray.serve.llm`'s OpenAI app; `serve_llm` starts it.

The first line of standard input says what to serve; its end is the order to stop.
"""

import sys
from typing import Any

import msgspec

from headstart.cluster import ray_adapter
from headstart.configs.settings import RaySettings

__all__ = ["Wanted", "serve"]

NUM_CPUS = 16
"""CPUs that Ray believes in, so that nothing waits for a share; binding is the benchmark's."""


class Wanted(msgspec.Struct, frozen=True):
    """What is to be served, and where."""

    name: str
    path: str
    port: int
    engine_options: dict[str, Any]
    """As `launch_adapter.engine_options` gives them."""
    environment: dict[str, str]


def serve() -> None:
    """Serve until standard input ends; say `""` once it is up, or why it cannot be."""
    wanted = msgspec.json.decode(sys.stdin.readline(), type=Wanted)
    answers, sys.stdout = sys.stdout, sys.stderr  # whoever prints, prints to the log
    try:
        _run(wanted)
        reason = ""
    except Exception as error:  # whatever it is, it is the reason
        reason = f"{type(error).__name__}: {error}"
    answers.write(msgspec.json.encode(reason).decode() + "\n")
    answers.flush()
    sys.stdin.read()
    _stop()


def _run(wanted: Wanted) -> None:
    from ray import serve as ray_serve
    from ray.serve.llm import LLMConfig, build_openai_app

    ray_adapter.start_ray(RaySettings(metrics_export_port=0, num_cpus=NUM_CPUS))
    ray_serve.start(http_options={"host": "127.0.0.1", "port": wanted.port})
    config = LLMConfig(
        model_loading_config={"model_id": wanted.name, "model_source": wanted.path},
        engine_kwargs=wanted.engine_options,
        accelerator_config={"kind": "cpu"},
        runtime_env={"env_vars": wanted.environment},
        deployment_config={"num_replicas": 1, "ray_actor_options": {"num_cpus": 1}},
        # Its default of 50 ms would hold every token back; this is the faster rival.
        experimental_configs={"stream_batching_interval_ms": 0},
    )
    ray_serve.run(build_openai_app({"llm_configs": [config]}), name="bench")


def _stop() -> None:
    import ray
    from ray import serve as ray_serve

    if ray.is_initialized():
        ray_serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
