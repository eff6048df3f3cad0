"""Entry points of the processes that measure frames; `headstart.benchmarks.child` starts them.

The first line of standard input is the settings; its end is the order to stop.
"""

import asyncio
import sys

import msgspec
import uvloop

from headstart.benchmarks.frame_handle import stream_table
from headstart.benchmarks.frame_readers import DataPlaneReader, HandleReader, Reader
from headstart.benchmarks.frame_times import Ask
from headstart.cluster.data_plane import DataPlaneServer
from headstart.cluster.fake_engine import FakeEngine
from headstart.configs.settings import Settings
from headstart.monitoring import logs

__all__ = ["read_data_plane", "read_handles", "serve_replica"]


def read_data_plane() -> None:
    """Answer each `Ask` with a `Delivery` over the data plane, after a first line `true`."""
    uvloop.run(_read(DataPlaneReader(_settings())))


def read_handles() -> None:
    """Answer each `Ask` with a `Delivery` over Serve handles, after a first line `true`."""
    uvloop.run(_read(HandleReader(_settings())))


def serve_replica() -> None:
    """Be what a replica is, without Ray around it.

    A second line names the model; the answer is the address, and nothing follows it.
    """
    settings = _settings()
    uvloop.run(_serve(settings, sys.stdin.readline().strip()))


async def _read(reader: Reader) -> None:
    await reader.start()
    try:
        _write(b"true")
        while line := await asyncio.to_thread(sys.stdin.readline):
            _write(msgspec.json.encode(await reader.deliver(msgspec.json.decode(line, type=Ask))))
    finally:
        await reader.close()


async def _serve(settings: Settings, name: str) -> None:
    model = next(model for model in settings.models if model.name == name)
    streams = stream_table(settings)
    engine = FakeEngine(model, streams)
    server = DataPlaneServer(engine, await engine.start(), streams, settings.data_plane)
    try:
        _write(f"tcp://{settings.data_plane.bind_host}:{await server.start()}".encode())
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await server.close()
        await engine.close()


def _settings() -> Settings:
    settings = Settings.from_child(sys.stdin.readline())
    # To standard error: standard output is for answers.
    logs.set_up("bench", level=settings.logging.level, form=settings.logging.format)
    return settings


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()
