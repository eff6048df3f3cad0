"""The engines that `headstart bench decode` compares, each in a process of its own.

One starts when it is first asked, so a part that is resumed or run by itself starts what it needs.
One is awake at a time.
"""

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec

from headstart.benchmarks.arms import Arm
from headstart.benchmarks.child import Child, command
from headstart.benchmarks.decode_engines import Engine
from headstart.benchmarks.servers import bind, cores_of
from headstart.cluster import launch_adapter
from headstart.cluster.engine_child import Asked, Batch, Done, Wanted
from headstart.stages.errors import SetupError

__all__ = ["DecodeRig", "Rig"]


class Rig(Protocol):
    """Engines that can be asked."""

    missing: dict[str, str]
    """Engines that cannot be measured, and why."""

    def ready(self, names: Iterable[str]) -> None:
        """Start engines that a run can do without."""

    def ask(self, name: str, asked: Sequence[Asked], max_tokens: int, **how: Any) -> Done:
        """Have an engine answer a batch."""


class DecodeRig:
    """Engines by name, started when they are first asked. A context manager.

    Args:
        path: Where the weights are.
        folder: For logs.
        engines: All there are; more may be added.
        missing: Those that are not to be measured, and why.
    """

    def __init__(
        self, path: Path, folder: Path, engines: dict[str, Engine], missing: Mapping[str, str]
    ) -> None:
        self.engines = engines
        self.missing = dict(missing)
        if importlib.util.find_spec("arctic_inference") is None:
            self.missing.setdefault("suffix", "vLLM wants arctic-inference, which is not here")
        self._path = path
        self._folder = folder
        self._children: dict[str, Child] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def arms(self) -> list[Arm]:
        """Of all that was started."""
        return [child.arm for child in self._children.values()]

    @property
    def environments(self) -> dict[str, dict[str, str]]:
        """Of all that was started, by name."""
        return {name: _environment(self.engines[name]) for name in self._children}

    def ready(self, names: Iterable[str]) -> None:
        """Start engines that a run can do without; one that does not start is then `missing`."""
        for name in names:
            if name not in self.missing:
                try:
                    self._child(name)
                except SetupError as error:
                    self.missing[name] = error.message.strip().splitlines()[-1]

    def ask(self, name: str, asked: Sequence[Asked], max_tokens: int, **how: Any) -> Done:
        """Have one engine answer a batch; the others are suspended.

        Args:
            how: Further fields of `Batch`.

        Raises:
            SetupError: It does not start, or ended.
        """
        return _asked(self._child(name), Batch(list(asked), max_tokens, **how))

    def _child(self, name: str) -> Child:
        if name not in self._children:
            print(f"starting the engine {name}", flush=True)
            self._children[name] = self._start(name, self.engines[name])
        return self._children[name]

    def _start(self, name: str, engine: Engine) -> Child:
        assignments = (f"{key}={value}" for key, value in _environment(engine).items())
        argv = ("env", *assignments, *command("headstart.cluster.engine_child", "serve"))
        child = Child(name, argv, self._folder / f"{name.replace(' ', '-')}.log")
        self._stack.callback(child.arm.stop)
        wanted = Wanted(engine.model.model_dump_json(), str(self._path), engine.drafter)
        child.tell(msgspec.json.encode(wanted))
        if reason := child.hear(str):
            raise SetupError(f"the engine {name} does not start: {reason}")
        bind(child.arm, cores_of(engine.model))
        child.arm.suspend()
        # The first batch pays for what is made lazily.
        _asked(child, Batch([Asked("Say one.")], 4))
        return child


def _environment(engine: Engine) -> dict[str, str]:
    return launch_adapter.engine_environment(engine.model, cores_of(engine.model))


def _asked(child: Child, batch: Batch) -> Done:
    with child.arm.awake():
        child.tell(msgspec.json.encode(batch))
        return child.hear(Done)
