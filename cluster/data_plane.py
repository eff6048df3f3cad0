"""The replica's end of the data plane: serves an engine to any number of gateways.

For each gateway one task takes whatever its streams have gained since the last message and sends
it as one `Step`. All frames of an engine step are appended in one turn of the event loop and the
task runs in the next, so a step is a message, whatever the number of streams.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
import zmq
import zmq.asyncio

from headstart.cluster import messages, secure_socket
from headstart.cluster.engine import Engine, EngineInfo
from headstart.cluster.stream import Stream, StreamTable
from headstart.cluster.tasks import Tasks
from headstart.configs.settings import DataPlaneSettings
from headstart.stages.errors import EngineFailed, EngineLost, HeadstartError, ProtocolViolation
from headstart.stages.failure import Failure
from headstart.stages.mirror import MirrorSender, StreamEnd
from headstart.stages.stage_clock import Mark

__all__ = ["DataPlaneServer"]

_log = structlog.get_logger(__name__)

MOST_KEPT = 1 << 17
"""Answers that a gateway is told of as it comes, at some 70 bytes each beside their requests."""


class DataPlaneServer:
    """Listens for gateways.

    Args:
        engine: A started engine.
        info: What its `start` returned.
        streams: The table the engine writes to.
        settings: Where to listen, and how patient to be with silent gateways.
    """

    def __init__(
        self, engine: Engine, info: EngineInfo, streams: StreamTable, settings: DataPlaneSettings
    ) -> None:
        self._engine = engine
        self._info = info
        self._streams = streams
        self._settings = settings
        self._peers: dict[bytes, _Peer] = {}
        self._tasks = Tasks()
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> int:
        """Begin to listen and return the port."""
        secret = self._settings.secret_value
        self._context = zmq.asyncio.Context()
        self._socket, self._authenticator, port = secure_socket.listen(
            self._context, secret, self._settings.bind_host
        )
        self._loops = [
            self._tasks.start(self._receive(), name="data plane receive"),
            self._tasks.start(self._sweep(), name="data plane sweep"),
        ]
        return port

    def check_health(self) -> None:
        """Return if gateways are heard.

        Raises:
            EngineFailed: They are not any more, and the replica must be replaced.
        """
        for loop in self._loops:
            if loop.done():
                raise EngineFailed(f"the replica's {loop.get_name()} has stopped")

    async def close(self) -> None:
        """Let go of every gateway; their streams are the engine's to end."""
        for peer in tuple(self._peers.values()):
            await self._lose(peer)
        await self._tasks.close()
        self._authenticator.stop()
        self._context.destroy(linger=0)

    async def _receive(self) -> None:
        while True:
            identity, *data = await self._socket.recv_multipart()
            try:
                self._dispatch(identity, messages.decode_to_replica(b"".join(data)))
            except ProtocolViolation as error:
                _log.error("gateway_broke_protocol", error=error.message)
            except Exception as error:  # the root of this message: others must still be heard
                _log.error("message_failed", exc_info=error)
            else:
                continue
            if (peer := self._peers.get(identity)) is not None:
                await self._lose(peer)

    def _dispatch(self, identity: bytes, message: messages.ToReplica) -> None:
        if isinstance(message, messages.Open):
            self._open(identity, message)
            return
        peer = self._peers.get(identity)
        if peer is None:
            # Most likely one that was taken for dead: it must not go on believing in the link.
            self._dismiss(identity, "the link is not open")
            return
        peer.last_heard = time.monotonic()
        if isinstance(message, messages.Confirm):
            self._streams.drop(message.stream_id)
        elif isinstance(message, messages.Bye):
            self._tasks.start(self._lose(peer), name="gateway left")
        else:
            peer.handle(message)

    def _open(self, identity: bytes, message: messages.Open) -> None:
        received = time.monotonic()
        if message.version != messages.PROTOCOL_VERSION:
            self._dismiss(identity, f"version {message.version} of the data plane is not spoken")
            return
        if message.window_bytes <= 0:
            raise ProtocolViolation("a gateway asked for no window")
        if identity in self._peers:
            raise ProtocolViolation("a gateway opened the link twice")
        if (reason := self._cannot_answer()) is not None:
            self._dismiss(identity, reason)
            return
        peer = _Peer(identity, self._engine, self._socket, message.window_bytes, self._streams)
        self._peers[identity] = peer
        info = self._info
        peer.send(
            messages.Opened(
                messages.PROTOCOL_VERSION,
                info.model,
                info.max_model_len,
                info.block_size,
                message.sent,
                received,
                time.monotonic(),
                self._stock(),
                info.speculation,
            )
        )
        peer.tasks.start(peer.send_steps(), name="data plane steps")

    def _stock(self) -> list[messages.Kept]:
        """List detached answers, as many as one message holds: the live ones before all."""
        kept = sorted(map(_kept, self._streams.detached), key=lambda one: one.is_live)
        return kept[-MOST_KEPT:]

    def _cannot_answer(self) -> str | None:
        """Why gateways must look elsewhere, before Serve has replaced this replica."""
        try:
            self._engine.check_health()
        except EngineFailed as error:
            return error.message
        return None

    def _dismiss(self, identity: bytes, reason: str) -> None:
        _log.warning("gateway_dismissed", reason=reason)
        secure_socket.post(self._socket, identity, messages.encode(messages.Bye(reason)))

    async def _sweep(self) -> None:
        """Drop gateways that fell silent, all of them if the engine is dead, and expired logs."""
        while True:
            slept_at = time.monotonic()
            await asyncio.sleep(self._settings.ping_interval_s)
            self._streams.expire()
            now, limit_s = time.monotonic(), self._settings.silence_limit_s
            stood_still = now - slept_at > limit_s
            if self._peers and (reason := self._cannot_answer()) is not None:
                _log.error("engine_died", reason=reason)
                for peer in tuple(self._peers.values()):
                    self._dismiss(peer.identity, reason)
                    await self._lose(peer)
            for peer in tuple(self._peers.values()):
                if stood_still:
                    peer.last_heard = now  # this process was stopped, not the gateway
                elif now - peer.last_heard > limit_s:
                    _log.warning("gateway_lost", silent_s=limit_s)
                    await self._lose(peer)

    async def _lose(self, peer: "_Peer") -> None:
        self._peers.pop(peer.identity, None)
        await peer.close()


def _kept(stream: Stream) -> messages.Kept:
    is_live = stream.end is None
    return messages.Kept(stream.id, stream.log.end, is_live, stream.request)


class _Peer:
    """One gateway."""

    def __init__(
        self,
        identity: bytes,
        engine: Engine,
        socket: zmq.asyncio.Socket,
        window_bytes: int,
        streams: StreamTable,
    ) -> None:
        self._streams = streams
        self.identity = identity
        self.last_heard = time.monotonic()
        self.tasks = Tasks()
        self._engine = engine
        self._socket = socket
        self._sender = MirrorSender(window_bytes)
        self._has_news = asyncio.Event()
        self._watches: dict[int, tuple[Stream, _Watch]] = {}
        self._attended: set[str] = set()
        """Ids of streams that end with this gateway."""
        self._calls: dict[int, asyncio.Task[None]] = {}

    def handle(self, message: messages.ToReplica) -> None:
        match message:
            case messages.Submit():
                self._submit(message)
            case messages.Attach():
                self._attach(message)
            case messages.Abort():
                self.tasks.start(self._engine.abort(message.stream_id), name="abort")
            case messages.Acknowledge():
                self._sender.acknowledged(message.total_bytes)
                self._has_news.set()
            case messages.Ping():
                now = time.monotonic()
                load, counts = self._engine.load(), self._engine.speculation()
                self.send(messages.Pong(message.sent, now, time.monotonic(), load, counts))
            case messages.Render():
                self._call(message.call, lambda: self._engine.render(message.request))
            case messages.Warm():
                self._call(message.call, lambda: self._warm(message))
            case messages.Cancel():
                if (task := self._calls.pop(message.call, None)) is not None:
                    task.cancel()

    def send(self, message: messages.ToGateway) -> None:
        """Queue one message; a gateway that has gone is noticed by its silence."""
        secure_socket.post(self._socket, self.identity, messages.encode(message))

    async def send_steps(self) -> None:
        """Send what is new, whenever something is."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            if parts := self._sender.collect():
                self.send(messages.Step(parts, self._engine.load()))
            if self._sender.has_work:
                # A long log is sent piece by piece; let the others have their turn in between.
                self._has_news.set()
                await asyncio.sleep(0)

    async def close(self) -> None:
        """Stop sending, and abort what nobody else may want."""
        for stream, watch in self._watches.values():
            stream.unlisten(watch)
        aborts = (self._engine.abort(stream_id) for stream_id in self._attended)
        for outcome in await asyncio.gather(*aborts, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.error("abort_failed", exc_info=outcome)
        await self.tasks.close()

    def news(self) -> None:
        """Something may be sent."""
        self._has_news.set()

    def ended(self, number: int) -> None:
        """A watched stream has ended."""
        stream, _ = self._watches.pop(number)
        self._attended.discard(stream.id)

    def _watch(self, number: int, stream: Stream, after: int) -> None:
        self._sender.watch(number, stream.log, after, lambda: stream.tokens)
        for mark in Mark:
            if (at := stream.clock.get(mark)) is not None:
                self._sender.marked(number, mark, at)
        watch = _Watch(self, self._sender, number)
        self._watches[number] = (stream, watch)
        if stream.end is None:
            stream.listen(watch)
        else:
            watch.ended(stream.end)
        self.news()

    def _submit(self, message: messages.Submit) -> None:
        request, logged = message.request, message.logged
        if message.is_detached and request.stream_id in self._streams:
            self._go_on(message)
            return
        stream = self._engine.serve(request, logged=logged)
        # Not before: an id that is in use is somebody else's stream.
        if message.is_detached:
            self._streams.detach(stream, request)
        else:
            self._attended.add(stream.id)
        self._watch(message.stream, stream, after=len(logged))

    def _go_on(self, message: messages.Submit) -> None:
        """Take up an answer that this replica has been making all along."""
        stream = self._streams.get(message.request.stream_id)
        if stream.log.starts_with(message.logged):
            self._watch(message.stream, stream, after=len(message.logged))
        else:
            self._refuse(message.stream, EngineLost("the replica has another answer of this id"))

    def _refuse(self, number: int, error: HeadstartError) -> None:
        """End a stream that has no log to read from with the reason."""
        self._sender.refused(number, StreamEnd(failure=Failure.of(error)))
        self.news()

    def _attach(self, message: messages.Attach) -> None:
        try:
            stream = self._engine.attach(message.stream_id, message.after)
        except HeadstartError as error:
            self._refuse(message.stream, error)
        else:
            self._watch(message.stream, stream, message.after)

    def _call(self, number: int, work: Callable[[], Awaitable[list[int]]]) -> None:
        self._calls[number] = self.tasks.start(self._answer(number, work), name="call")

    async def _answer(self, number: int, work: Callable[[], Awaitable[list[int]]]) -> None:
        try:
            self.send(messages.Reply(number, await work()))
        except Exception as error:  # the root of this call: the caller must hear of it
            if not isinstance(error, HeadstartError):
                _log.error("call_failed", exc_info=error)
            self.send(messages.Reply(number, [], Failure.of(error)))
        finally:
            self._calls.pop(number, None)

    async def _warm(self, message: messages.Warm) -> list[int]:
        warmth = await self._engine.warm(
            message.tokens, cache_salt=message.cache_salt, model=message.model
        )
        return [warmth.num_cached, int(warmth.seconds * 1e6)]


class _Watch:
    """Passes one stream's news to the mirror of one gateway."""

    def __init__(self, peer: _Peer, sender: MirrorSender, number: int) -> None:
        self._peer = peer
        self._sender = sender
        self._number = number

    def appended(self) -> None:
        self._sender.appended(self._number)
        self._peer.news()

    def marked(self, mark: Mark, at: float) -> None:
        self._sender.marked(self._number, mark, at)
        # Marks ride along with the next bytes, but for the one that says the prompt now waits for
        # the engine: the gateway's gauges would otherwise learn of a queue when it is over.
        if mark is Mark.TOKENISED:
            self._peer.news()

    def ended(self, end: StreamEnd) -> None:
        self._sender.ended(self._number, end)
        self._peer.ended(self._number)
        self._peer.news()
