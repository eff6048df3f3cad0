"""The baseline of the data plane: the same frames as items of a Ray Serve handle's stream."""

import time
from collections.abc import AsyncIterator

import msgspec

from headstart.cluster.engine import EngineRequest
from headstart.cluster.fake_engine import FakeEngine
from headstart.cluster.stream import StreamTable
from headstart.configs.settings import Settings
from headstart.stages.retention import Retention
from headstart.stages.stage_clock import Mark

__all__ = ["HandleReplica", "stream_table"]


class HandleReplica:
    """A fake engine whose answers leave through Serve: as they grow, piece by piece.

    Args:
        settings: As `Settings.to_child` wrote them.
        name: Which of the settings' models this is.
    """

    def __init__(self, settings: str, name: str) -> None:
        own = Settings.from_child(settings)
        model = next(model for model in own.models if model.name == name)
        self._streams = stream_table(own)
        self._engine = FakeEngine(model, self._streams)
        self._is_started = False

    async def frames(self, request: bytes) -> AsyncIterator[bytes | float]:
        """Yield what each engine step adds to the log; last, when its first token was sampled."""
        if not self._is_started:
            self._is_started = True
            await self._engine.start()
        stream = self._engine.serve(msgspec.msgpack.decode(request, type=EngineRequest))
        cursor = 0
        while True:
            await stream.grown(cursor)
            if stream.log.end == cursor:
                break
            data = stream.log.read(cursor)
            cursor += len(data)
            yield data
        first = stream.clock.get(Mark.FIRST_TOKEN)
        self._streams.drop(stream.id)
        assert first is not None
        yield first


def stream_table(settings: Settings) -> StreamTable:
    """Return the table that a process of ours keeps its answers in."""
    streams = settings.streams
    retention = Retention(streams.finished_ttl_s, streams.max_total_bytes)
    return StreamTable(retention, streams.max_stream_bytes, time.monotonic)
