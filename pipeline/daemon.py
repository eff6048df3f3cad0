"""The daemon: starts Ray, the replicas and the gateway; keeps the gateway alive; stops it all.

It alone drives Ray. No token passes through it.
"""

import asyncio
import atexit
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable

import structlog

from headstart.cluster import descendants, placement, ray_adapter, serve_app
from headstart.cluster.model_folder import lora_rank
from headstart.cluster.prepared_model import prepared
from headstart.configs.settings import Settings
from headstart.monitoring import logs
from headstart.pipeline import certificates
from headstart.pipeline.blocking import BlockingThread
from headstart.pipeline.gateway_child import GatewayChild
from headstart.pipeline.tls import check_certificate
from headstart.stages.errors import SetupError

__all__ = ["serve", "url_of"]

_log = structlog.get_logger(__name__)

EXIT_SETUP = 2
"""Exit status of the command line after a `SetupError`."""
_RAY_START_S = 20.0
"""Longest wait for a Ray that starts, which cannot be stopped before it has."""
_STOP_S = 4.0
"""Longest wait for a Ray started here to end by itself. It never does where its processes were told
to stop too, as by a signal to the whole group: then it would wait for those that are gone."""
_LEAVE_S = 30.0
"""Longest wait for a cluster that was joined to end this daemon's replicas."""
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to listen on all, and ask at one


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
    check_certificate(settings.gateway)
    if not settings.gateway.is_loopback and settings.gateway.tls_cert_file is None:
        _log.warning(
            "keys_and_prompts_travel_in_clear",
            host=settings.gateway.host,
            fix="set gateway.tls_cert_file and gateway.tls_key_file, or end TLS in front",
        )
    certificates.check(settings.quic, certificates.wall_clock())
    with _listen(settings) as listener:
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


def url_of(settings: Settings, host: str, port: int) -> str:
    """Return where somebody on this machine can ask, given where the gateway listens."""
    scheme = "http" if settings.gateway.tls_cert_file is None else "https"
    host = _ANY.get(host, host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


class _Daemon:
    def __init__(
        self, settings: Settings, listener: socket.socket, announce: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._announce = announce
        self._gateway = GatewayChild(settings, listener)
        self._thread = BlockingThread()
        self._stopping = asyncio.Event()
        self._is_ray_starting = False
        self._table: serve_app.ReplicaTable | None = None
        self._url = url_of(settings, *listener.getsockname()[:2])

    async def run(self) -> int:
        self._heed_signals()
        failures: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._start(), name="start"),
                    group.create_task(self._gateway.keep_alive(), name="gateway"),
                ]
                await self._stopping.wait()
                for task in tasks:
                    task.cancel()
        except* SetupError as group_of_one:
            failures += group_of_one.exceptions
        finally:
            await self._stop()
        if failures:
            raise failures[0]
        return 0

    def _heed_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        if self._stopping.is_set():
            os._exit(130)  # asked twice: at once, and Ray's processes die with this one
        self._stopping.set()
        self._announce("stopping: running answers may finish first; again to stop at once")

    async def _start(self) -> None:
        """Bring up Ray and every model.

        Raises:
            SetupError: Something cannot start; the message names the fix.
        """
        began = time.monotonic()
        settings = self._settings
        names = tuple(model.name for model in settings.models)
        limit_s = settings.ray.startup_timeout_s
        if settings.ray.address is None:
            await self._thread.call(_check_machine, settings)
        self._announce("starting Ray")
        self._is_ray_starting = settings.ray.address is None
        await self._thread.call(ray_adapter.start_ray, settings.ray)
        self._is_ray_starting = False
        self._heed_signals()  # Ray has put its own handler in their place
        await self._thread.call(serve_app.check_room, settings)
        await self._thread.call(ray_adapter.start_serve)
        self._announce(f"loading {', '.join(names)}")
        try:
            async with asyncio.timeout(limit_s):
                await self._thread.call(serve_app.run, settings)
                pools = [(pool.name, pool.pool) for pool in settings.pools]
                self._table = serve_app.ReplicaTable(pools, self._gateway.update)
                await self._gateway.ready()
        except TimeoutError:
            raise SetupError(
                f"not every replica was ready after {limit_s:.0f} s: look at Ray's logs "
                "(/tmp/ray/session_latest/logs), or raise ray.startup_timeout_s",
                param="ray.startup_timeout_s",
            ) from None
        self._announce(self._welcome(names, time.monotonic() - began))

    async def _stop(self) -> None:
        if self._table is not None:
            self._table.close()
        # Now: below a raylet that is gone nobody would find its workers, which outlive it by far.
        held = descendants.hold()
        await self._gateway.close()
        is_idle = await self._thread.idle(_RAY_START_S if self._is_ray_starting else 0)
        if is_idle and await self._has_left_ray():
            return
        # Still fetching a model, or waiting for replicas, or for Ray. Python's orderly exit would
        # abort where it finds a thread inside Ray.
        atexit.register(os._exit, 0 if self._stopping.is_set() else EXIT_SETUP)
        await asyncio.to_thread(ray_adapter.kill_ray)
        descendants.kill(held)

    async def _has_left_ray(self) -> bool:
        """Stop the replicas in order, if that can be done in time; return whether it was."""
        is_joined = self._settings.ray.address is not None
        try:
            async with asyncio.timeout(_LEAVE_S if is_joined else _STOP_S):
                await self._thread.call(serve_app.stop, self._settings)
        except Exception as error:  # of Ray, where a part of it is gone
            log = _log.warning if is_joined else _log.debug
            log("ray_left_in_disorder", error=type(error).__name__)
            return False
        return True

    def _welcome(self, names: tuple[str, ...], seconds: float) -> str:
        body = (
            f'{{"model": "{names[0]}", "stream": true, '
            '"messages": [{"role": "user", "content": "Hi!"}]}'
        )
        key = "-H 'authorization: Bearer KEY' " if self._settings.access.keys else ""
        port = self._settings.ray.metrics_export_port
        engines = f"   (Ray's and vLLM's own: port {port})" if port else ""
        return (
            f"\nHeadstart is ready after {seconds:.0f} s: {self._url}/v1\n"
            f"models:  {', '.join(names)}\n"
            f"metrics: {self._url}/metrics{engines}\n"
            f"try:     curl -N {self._url}/v1/chat/completions "
            f"-H 'content-type: application/json' {key}-d '{body}'\n"
        )


def _check_machine(settings: Settings) -> None:
    """Look at cores, count the GPUs, then fetch and check every model, before Ray starts.

    A replica that fails says so much later, and one that finds no room waits.

    Raises:
        SetupError: A model is missing or broken, or cores or GPUs are; the message has the fix.
    """
    placement.check_cores(settings.pools, frozenset(os.sched_getaffinity(0)))
    if any(model.gpus_per_replica for model in settings.models):
        here = {placement.GPU: ray_adapter.num_gpus_here()}
        placement.check_room(settings.pools, [here], "this machine", (placement.GPU,))
    for model in settings.models:
        if model.engine == "vllm":
            for pool in model.pools:
                prepared(pool, settings.cache_dir)
            for folder in model.adapters.values():
                lora_rank(folder)
