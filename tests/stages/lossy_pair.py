"""Two datagram machines and a network that does what it likes, in virtual time."""

from heapq import heappop, heappush
from itertools import count
from random import Random

from headstart.stages.datagram_events import (
    AckReceived,
    Attach,
    CatchUp,
    CatchUpReceived,
    LogGrew,
    ReceiverAction,
    ReceiverEvent,
    Render,
    Rendered,
    SendAck,
    SenderAction,
    SenderEvent,
    SnapshotReceived,
    Transmit,
)
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.datagram_sender import DatagramSender
from headstart.stages.frames import Frame
from headstart.stages.published_eloquent import PublishedReceiver, PublishedSender
from headstart.stages.token_log import TokenLog
from headstart.stages.wire import Ack, Piece, Snapshot, decode_datagram

Sender = DatagramSender | PublishedSender
Receiver = DatagramReceiver | PublishedReceiver
LIMIT_S = 600.0


class LossyPair:
    """Streams a log from one machine to the other; checks every byte that is shown."""

    def __init__(
        self, sender: Sender, receiver: Receiver, log: TokenLog, random: Random, loss: float
    ) -> None:
        self.sender, self.receiver, self.log = sender, receiver, log
        self.random, self.loss = random, loss
        self.shown = bytearray()
        if isinstance(receiver, DatagramReceiver):
            self.shown += receiver.log[: receiver.shown]
        self.datagrams: list[bytes] = []
        self.now = 0.0
        self._order = count()
        self._queue: list[tuple[float, int, str, object]] = []

    def stream(self, answer: list[Frame], gap_s: float) -> None:
        """Append the frames one by one, close the log, and run until both machines are done."""
        for index, frame in enumerate(answer):
            self._post(index * gap_s, "frame", frame)
        self._post(len(answer) * gap_s, "close", None)
        self.finish()

    def finish(self) -> None:
        """Run until both machines are done."""
        self._receive(Attach())
        while not self.sender.is_finished:
            deadlines = (self.sender.deadline(), self.receiver.deadline())
            moments = [at for at in deadlines if at is not None]
            moments += [self._queue[0][0]] if self._queue else []
            self.now = max(self.now, min(moments))
            assert self.now < LIMIT_S
            if self._queue and self._queue[0][0] <= self.now:
                _, _, kind, content = heappop(self._queue)
                self._happen(kind, content)
            self._sent(self.sender.expire(self.now))
            self._received(self.receiver.expire(self.now))

    def _post(self, at: float, kind: str, content: object) -> None:
        heappush(self._queue, (at, next(self._order), kind, content))

    def _travel(self, kind: str, datagram: bytes) -> None:
        for _ in range(1 + (self.random.random() < 0.1)):
            if self.random.random() >= self.loss:
                self._post(self.now + 0.02 + 0.05 * self.random.random() ** 4, kind, datagram)

    def _happen(self, kind: str, content: object) -> None:
        if isinstance(content, Frame):
            self.log.append(content)
            self._feed(LogGrew())
        elif kind == "close":
            self.log.close()
            self._feed(LogGrew())
        elif isinstance(content, CatchUp):
            data = self.log.read(0)[content.start : content.stop]
            for start in range(0, len(data), 100):
                piece = Piece(content.start + start, data[start : start + 100])
                self._receive(CatchUpReceived(piece))
        else:
            assert isinstance(content, bytes)
            value = decode_datagram(content)
            if isinstance(value, Snapshot):
                self._receive(SnapshotReceived(value))
            else:
                assert isinstance(value, Ack)
                self._feed(AckReceived(value))

    def _feed(self, event: SenderEvent) -> None:
        self._sent(self.sender.feed(event, self.now))

    def _receive(self, event: ReceiverEvent) -> None:
        self._received(self.receiver.feed(event, self.now))

    def _sent(self, actions: list[SenderAction]) -> None:
        for action in actions:
            if isinstance(action, Transmit):
                self.datagrams.append(action.datagram)
                self._travel("datagram", action.datagram)
            elif isinstance(action, CatchUp):
                self._post(self.now + 0.3, "catch-up", action)

    def _received(self, actions: list[ReceiverAction]) -> None:
        for action in actions:
            if isinstance(action, SendAck):
                self._travel("datagram", action.datagram)
            elif isinstance(action, Render):
                assert action.start == len(self.shown)
                self.shown += action.records
                assert self.log.read(0).startswith(bytes(self.shown))
                self._receive(Rendered(len(self.shown)))
