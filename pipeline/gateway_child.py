"""The gateway as the daemon's child: started on an inherited socket, restarted if it dies."""

import asyncio
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from headstart.cluster.replica_pool import ReplicaAddress
from headstart.configs.settings import Settings
from headstart.stages.errors import SetupError

__all__ = ["GatewayChild", "Hello", "Table"]

_log = structlog.get_logger(__name__)

_RESTART_PAUSE_S = 0.2
_QUICK_DEATH_S = 5.0
_MOST_QUICK_DEATHS = 5
_EXIT_MARGIN_S = 5.0


class Hello(msgspec.Struct):
    """First line on the gateway's standard input."""

    settings: str
    """As `Settings.to_child` wrote them."""
    listen_fd: int
    """A listening TCP socket, inherited."""


class Table(msgspec.Struct):
    """Any later line: the replicas that run now. After the last comes a `null`, unless the daemon
    was killed."""

    replicas: list[ReplicaAddress]


class GatewayChild:
    """The gateway process.

    Args:
        settings: Handed down whole, secrets included.
        listener: The socket it serves; it stays open here, so a restart keeps the port.
    """

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._process: asyncio.subprocess.Process | None = None
        self._replicas: list[ReplicaAddress] = []
        self._ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Of the process that runs now, or ran last."""
        return None if self._process is None else self._process.pid

    def update(self, replicas: list[ReplicaAddress]) -> None:
        """Tell the gateway which replicas run."""
        self._replicas = replicas
        self._write(Table(replicas))

    async def ready(self) -> None:
        """Wait until the gateway can take a request to every model."""
        await self._ready.wait()

    async def keep_alive(self) -> None:
        """Run the gateway until cancelled.

        Raises:
            SetupError: It dies again and again as it starts.
        """
        num_quick_deaths = 0
        while num_quick_deaths < _MOST_QUICK_DEATHS:
            began = time.monotonic()
            status = await self._run_once()
            _log.error("gateway_died", status=status)
            is_quick = time.monotonic() - began < _QUICK_DEATH_S
            num_quick_deaths = num_quick_deaths + 1 if is_quick else 0
            await asyncio.sleep(_RESTART_PAUSE_S * 2**num_quick_deaths)
        raise SetupError(f"the gateway cannot start: it died {num_quick_deaths} times in a row")

    async def close(self) -> None:
        """Let the gateway finish what it is sending, then make sure that it is gone.

        Who comes later is refused at once: the socket is closed here too.
        """
        try:
            await self._end_process()
        finally:
            self._listener.close()

    async def _end_process(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        self._write(None)
        process.stdin.close()
        try:
            async with asyncio.timeout(self._settings.gateway.shutdown_grace_s + _EXIT_MARGIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _run_once(self) -> int:
        listen_fd = self._listener.fileno()
        process = self._process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("headstart")),
            "gateway",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(listen_fd,),
            # Ctrl-C in the terminal is the daemon's; the gateway stops when its input ends.
            start_new_session=True,
        )
        self._write(Hello(self._settings.to_child(), listen_fd))
        self._write(Table(self._replicas))
        assert process.stdout is not None
        while await process.stdout.readline():
            self._ready.set()  # it has one thing to say
        return await process.wait()

    def _write(self, line: Hello | Table | None) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        with suppress(ConnectionError, RuntimeError):  # it has just died: the next one is told
            process.stdin.write(msgspec.json.encode(line) + b"\n")
