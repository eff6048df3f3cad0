"""The daemon: starts Ray, the replicas and the gateway; keeps the gateway alive; stops it all.

It alone drives Ray. No token passes through it.
"""

import asyncio
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from headstart.cluster import adapter, model_source, serve_app
from headstart.cluster.replica_pool import ReplicaAddress
from headstart.configs.settings import Settings
from headstart.monitoring import logs
from headstart.pipeline.gateway import Hello, Table
from headstart.stages.errors import SetupError

__all__ = ["serve"]

_log = structlog.get_logger(__name__)

_RESTART_PAUSE_S = 0.2
_GATEWAY_EXIT_MARGIN_S = 5.0


def serve(settings: Settings, announce: Callable[[str], None] = lambda line: None) -> int:
    """Run until a signal comes.

    Args:
        announce: Called with the lines a person should see: progress, then where to send requests.

    Returns: The exit status.

    Raises:
        SetupError: The machine, the model or the settings do not allow it.
    """
    logs.set_up("daemon", level=settings.logging.level, form=settings.logging.format)
    if settings.data_plane.secret is None:
        settings = settings.with_secret(secrets.token_hex(32))
    listener = _listen(settings)
    with listener:
        return asyncio.run(_Daemon(settings, listener, announce).run())


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.gateway.host, settings.gateway.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SetupError(
            f"gateway.port: cannot listen on {host}:{port}: {error.strerror}; "
            "stop what uses it, or set another port (0 takes any free one)",
            param="gateway.port",
        ) from error
    # Requests that come while the gateway restarts wait in this queue.
    listener.listen(1024)
    return listener


class _Daemon:
    def __init__(
        self, settings: Settings, listener: socket.socket, announce: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._announce = announce
        self._gateway = _GatewayChild(settings, listener)
        host, port = listener.getsockname()[:2]
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def run(self) -> int:
        stopping = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        async with asyncio.TaskGroup() as group:
            gateway = group.create_task(self._gateway.keep_alive(), name="gateway")
            starting = group.create_task(self._start(), name="start")
            stop = group.create_task(stopping.wait(), name="signal")
            try:
                await asyncio.wait((starting, stop), return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    table = starting.result()
                    await stop
                    table.close()
                else:
                    starting.cancel()
            finally:
                self._announce("stopping: running answers may finish first")
                gateway.cancel()
                stop.cancel()
                await self._gateway.close()
                await asyncio.to_thread(serve_app.stop)
        return 0

    async def _start(self) -> "serve_app.ReplicaTable":
        """Bring up Ray and every model.

        Raises:
            SetupError: Something cannot start; the message names the fix.
        """
        began = time.monotonic()
        settings = self._settings
        paths = {
            model.name: str(await asyncio.to_thread(_resolve, model.source, settings.cache_dir))
            for model in settings.models
            if model.engine == "vllm"
        }
        self._announce("starting Ray")
        await asyncio.to_thread(adapter.start_ray, settings.ray)
        names = tuple(model.name for model in settings.models)
        self._announce(f"loading {', '.join(names)}")
        model_paths = {name: paths.get(name, "") for name in names}
        async with asyncio.timeout(settings.ray.startup_timeout_s):
            await asyncio.to_thread(serve_app.run, settings, model_paths)
        table = serve_app.ReplicaTable(names, self._gateway.update)
        self._announce(self._welcome(names, time.monotonic() - began))
        return table

    def _welcome(self, names: tuple[str, ...], seconds: float) -> str:
        body = (
            f'{{"model": "{names[0]}", "stream": true, '
            '"messages": [{"role": "user", "content": "Hi!"}]}'
        )
        return (
            f"\nHeadstart is ready after {seconds:.0f} s: {self._url}/v1\n"
            f"models:  {', '.join(names)}\n"
            f"metrics: {self._url}/metrics   (Ray's and vLLM's own: port "
            f"{self._settings.ray.metrics_export_port})\n"
            f"try:     curl -N {self._url}/v1/chat/completions "
            f"-H 'content-type: application/json' -d '{body}'\n"
        )


def _resolve(source: str, cache_dir: Path) -> Path:
    return model_source.resolve(source, cache_dir)


class _GatewayChild:
    """The gateway process, started again on the same socket if it dies."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._process: asyncio.subprocess.Process | None = None
        self._replicas: list[ReplicaAddress] = []

    def update(self, replicas: list[ReplicaAddress]) -> None:
        """Tell the gateway which replicas run."""
        self._replicas = replicas
        self._write(Table(replicas))

    async def keep_alive(self) -> None:
        """Run the gateway until cancelled."""
        while True:
            await self._spawn()
            assert self._process is not None
            status = await self._process.wait()
            _log.error("gateway_died", status=status)
            await asyncio.sleep(_RESTART_PAUSE_S)

    async def close(self) -> None:
        """Let the gateway finish what it is sending, then make sure that it is gone."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        grace_s = self._settings.gateway.shutdown_grace_s + _GATEWAY_EXIT_MARGIN_S
        try:
            async with asyncio.timeout(grace_s):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _spawn(self) -> None:
        listen_fd = self._listener.fileno()
        self._process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("headstart")),
            "gateway",
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(listen_fd,),
            # Ctrl-C in the terminal is the daemon's; the gateway stops when its input ends.
            start_new_session=True,
        )
        self._write(Hello(self._settings.to_child(), listen_fd))
        self._write(Table(self._replicas))

    def _write(self, line: Hello | Table) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        with suppress(ConnectionError, RuntimeError):  # it has just died: the next one is told
            process.stdin.write(msgspec.json.encode(line) + b"\n")
