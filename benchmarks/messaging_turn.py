"""One arm's turn: a sender process, a receiver process, one connection, what both measured.

The sender stands for a replica and the receiver for the gateway. They speak the data plane's own
messages under its credit (`headstart.stages.mirror`), whatever the arm.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import uvloop

from headstart.benchmarks.messaging_links import Credentials, Heard, Link, Send, connect, serve
from headstart.cluster import messages
from headstart.cluster.engine import EngineLoad
from headstart.cluster.tasks import Tasks
from headstart.stages.frames import Channel, Frame, encode
from headstart.stages.mirror import Part

__all__ = ["Ask", "Phase", "Turn", "take_turn"]

NUM_CONNECTS = 5
PATIENCE_S = 60.0


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Sent back as it came."""


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The receiver asks for steps."""

    num_streams: int
    """Each gains one token a step."""
    num_steps: int
    period_s: float
    """0 is as fast as credit allows."""


class Account(msgspec.Struct, frozen=True, array_like=True):
    """What the sender measured while it sent them."""

    sent: list[float]
    """Monotonic clock at each call to send, seconds."""
    cpu_s: float


class Phase(msgspec.Struct, frozen=True):
    """An ask that was answered."""

    ask: Ask
    hops_s: list[float]
    """Of each message, from the call to send until it is decoded."""
    wall_s: float
    sender_cpu_s: float
    """Of the whole process, the library's threads included; as `receiver_cpu_s`."""
    receiver_cpu_s: float


class Turn(msgspec.Struct, frozen=True):
    """What one arm did."""

    first_message_s: list[float]
    """Of each new connection, from before it is made until an answer is decoded."""
    phases: list[Phase]
    """In the order of the asks."""


def take_turn(arm: str, credentials: Credentials, window_bytes: int, asks: Sequence[Ask]) -> Turn:
    """Measure one arm, in two processes that end with the turn.

    Raises:
        TimeoutError: A process did not get on.
        EOFError: A process died; its traceback is on standard error.
    """
    context = multiprocessing.get_context("spawn")
    sender, from_sender = context.Pipe()
    receiver, from_receiver = context.Pipe()
    common = (arm, credentials, window_bytes)
    children = (
        context.Process(target=_be_sender, args=(from_sender, *common), daemon=True),
        context.Process(target=_be_receiver, args=(from_receiver, *common, asks), daemon=True),
    )
    try:
        for child in children:
            child.start()
        # Only the children hold these ends now, so a child's death ends the wait for its word.
        from_sender.close()
        from_receiver.close()
        receiver.send(_hear(sender))
        turn: Turn = _hear(receiver)
    finally:
        for child in children:
            child.kill()
            child.join()
    return turn


def _hear(child: Connection) -> Any:
    if not child.poll(PATIENCE_S):
        raise TimeoutError("a process of the benchmark does not get on")
    return child.recv()


def _be_sender(parent: Connection, arm: str, credentials: Credentials, window_bytes: int) -> None:
    async def run() -> None:
        tasks = Tasks()

        def accept(send: Send) -> Heard:
            return _Sender(send, tasks, window_bytes).heard

        await serve(arm, credentials, parent.send, accept)

    # Not uvloop: a Serve replica runs its deployment's code on asyncio's own loop.
    asyncio.run(run())


def _be_receiver(
    parent: Connection,
    arm: str,
    credentials: Credentials,
    window_bytes: int,
    asks: Sequence[Ask],
) -> None:
    async def run(port: int) -> Turn:
        first_message_s = []
        for _ in range(NUM_CONNECTS):
            began = time.monotonic()
            async with connect(arm, credentials, port) as link:
                await _Receiver(link, window_bytes).open()
                first_message_s.append(time.monotonic() - began)
        async with connect(arm, credentials, port) as link:
            receiver = _Receiver(link, window_bytes)
            await receiver.open()
            return Turn(first_message_s, [await receiver.take(ask) for ask in asks])

    parent.send(uvloop.run(run(parent.recv())))


class _Sender:
    """The replica's end of one connection."""

    def __init__(self, send: Send, tasks: Tasks, window_bytes: int) -> None:
        self._send = send
        self._tasks = tasks
        self._window_bytes = window_bytes
        self._sent_bytes = 0
        self._acknowledged_bytes = 0
        self._was_acknowledged = asyncio.Event()

    def heard(self, data: bytes) -> None:
        """Take one message."""
        match _to_sender.decode(data):
            case Hello():
                self._tasks.start(self._greet(data), name="greet")
            case messages.Acknowledge(total_bytes):
                self._acknowledged_bytes = total_bytes
                self._was_acknowledged.set()
            case ask:
                self._tasks.start(self._answer(ask), name="answer")

    async def _greet(self, hello: bytes) -> None:
        await self._send(hello)

    async def _answer(self, ask: Ask) -> None:
        load = EngineLoad(running=ask.num_streams)
        frame = encode(Frame(0, Channel.CONTENT, " token", (12345,), at_us=20_000_000))
        parts = [Part(n, 1000 * len(frame), frame) for n in range(1, ask.num_streams + 1)]
        sent = []
        cpu_s, due = time.process_time(), time.monotonic()
        for _ in range(ask.num_steps):
            due = max(due + ask.period_s, now := time.monotonic())
            # Without a period too: the loop turns between two engine steps.
            await asyncio.sleep(due - now)
            await self._in_flight_below(self._window_bytes)
            data = messages.encode(messages.Step(parts, load))
            self._sent_bytes += len(data)
            sent.append(time.monotonic())
            await self._send(data)
        await self._in_flight_below(1)
        await self._send(msgspec.msgpack.encode(Account(sent, time.process_time() - cpu_s)))

    async def _in_flight_below(self, limit_bytes: int) -> None:
        while self._sent_bytes - self._acknowledged_bytes >= limit_bytes:
            self._was_acknowledged.clear()
            await self._was_acknowledged.wait()


_to_sender = msgspec.msgpack.Decoder(Hello | Ask | messages.Acknowledge)


class _Receiver:
    """The gateway's end of one connection."""

    def __init__(self, link: Link, window_bytes: int) -> None:
        self._link = link
        self._window_bytes = window_bytes
        self._received_bytes = 0
        self._acknowledged_bytes = 0

    async def open(self) -> None:
        """Wait for the first answer."""
        await self._link.send(msgspec.msgpack.encode(Hello()))
        msgspec.msgpack.decode(await self._link.receive(), type=Hello)

    async def take(self, ask: Ask) -> Phase:
        """Have an ask answered."""
        decoded = []
        began_cpu_s = time.process_time()
        await self._link.send(msgspec.msgpack.encode(ask))
        for _ in range(ask.num_steps):
            data = await self._link.receive()
            messages.decode_to_gateway(data)
            decoded.append(time.monotonic())
            self._received_bytes += len(data)
            if self._received_bytes - self._acknowledged_bytes > self._window_bytes // 4:
                await self._acknowledge()
        cpu_s = time.process_time() - began_cpu_s
        await self._acknowledge()
        account = msgspec.msgpack.decode(await self._link.receive(), type=Account)
        hops_s = [after - before for before, after in zip(account.sent, decoded, strict=True)]
        wall_s = decoded[-1] - account.sent[0]
        return Phase(ask, hops_s, wall_s, account.cpu_s, cpu_s)

    async def _acknowledge(self) -> None:
        self._acknowledged_bytes = self._received_bytes
        await self._link.send(messages.encode(messages.Acknowledge(self._received_bytes)))
