"""A further baseline: the OpenAI app of `ray.serve.llm`, where it starts."""

from pathlib import Path

import msgspec

from headstart.benchmarks.child import Child, command
from headstart.benchmarks.serve_llm_child import Wanted
from headstart.benchmarks.servers import Server, bind, cores_of, free_port
from headstart.cluster import launch_adapter
from headstart.configs.model_settings import ModelSettings
from headstart.stages.errors import SetupError

__all__ = ["NAME", "NOTE", "start_serve_llm"]

NAME = "ray.serve.llm"
NOTE = (
    "with `stream_batching_interval_ms` 0 in place of its default 50, which holds every token "
    "back; on a CPU it runs vLLM with the `mp` executor whatever is asked, so the model computes "
    "in a process of its own beside the engine core"
)


def start_serve_llm(model: ModelSettings, model_path: str, folder: Path) -> Server:
    """Start the app with our replica's settings, wait until it can answer, and suspend it.

    Raises:
        SetupError: It does not start: Ray's extra packages are not there, or it refuses the model.
    """
    port = free_port()
    argv = command("headstart.benchmarks.serve_llm_child", "serve")
    child = Child(NAME, argv, folder / "serve_llm.log")
    wanted = Wanted(
        name=model.name,
        path=model_path,
        port=port,
        engine_options=launch_adapter.engine_options(model),
        environment=launch_adapter.engine_environment(model, cores_of(model)),
    )
    try:
        child.tell(msgspec.json.encode(wanted))
        reason = child.hear(str)
        if reason:
            raise SetupError(reason)
        engine = bind(child.arm, cores_of(model))
        child.arm.suspend()
    except BaseException:
        child.arm.stop()
        raise
    return Server(child.arm, f"http://127.0.0.1:{port}", model.name, argv, engine)
