"""Our machines, and the published ones, as the two ends of a simulated link.

The carrier between machine and link does what QUIC does for datagrams: numbers packets, has them
acknowledged, finds losses, and keeps to a congestion window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.benchmarks.link_simulator import Packet
from headstart.benchmarks.rival_transports import (
    Acknowledgement,
    Segment,
    SegmentReceiver,
    SegmentSender,
)
from headstart.stages.congestion import (
    PACKET_BYTES,
    PacketAcked,
    PacketLost,
    PacketSent,
    TokenCongestion,
)
from headstart.stages.datagram_events import (
    AckReceived,
    CarrierBlocked,
    CarrierReady,
    CatchUp,
    CatchUpReceived,
    LogGrew,
    ReceiverAction,
    Render,
    Rendered,
    SendAck,
    SenderAction,
    SnapshotReceived,
    Transmit,
)
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.datagram_sender import DatagramSender, SenderLimits
from headstart.stages.frames import Channel, Frame, StreamHeader, encode, record_bounds
from headstart.stages.published_eloquent import PublishedReceiver, PublishedSender
from headstart.stages.token_log import TokenLog
from headstart.stages.wire import Ack, Piece, Snapshot, decode_datagram, encode_item

__all__ = [
    "OVERHEAD_BYTES",
    "DatagramClient",
    "DatagramServer",
    "coded_bytes_per_step",
    "ours",
    "published",
    "spoken",
]

OVERHEAD_BYTES = 60
"""IPv4 and UDP 28, QUIC short header 11, tag 16, datagram frame and session number 5."""
STREAM = 1
_CHUNK_BYTES = 1100
_REMEMBERED = 64
_HEADER = StreamHeader(200, "text/event-stream", "chat", "chatcmpl-1", "tiny", 1_700_000_000)
_WORDS = (" the", " model", " of", " a", ",", " latency", " and", " token", "s", " überall", " 流")


@dataclass(frozen=True, slots=True)
class _Down:
    number: int
    datagram: bytes | None
    catch_up: Segment | None = None


@dataclass(frozen=True, slots=True)
class _Up:
    numbers: tuple[int, ...]
    """Packets received of late."""
    datagram: bytes | None
    catch_up: Acknowledgement | None = None


class DatagramServer:
    """A machine that sends, its log, and its carrier.

    Args:
        machine: Either scheme's sender, over `log`.
        congestion: None for a carrier without a window.
        sizes: Tokens of each engine step; one where there is none.
    """

    def __init__(
        self,
        machine: DatagramSender | PublishedSender,
        log: TokenLog,
        rtt_s: float,
        congestion: TokenCongestion | None = None,
        sizes: Sequence[int] = (),
    ) -> None:
        self.machine = machine
        self.log = log
        self._sizes = sizes
        self._congestion = congestion
        self._catch_up = SegmentSender(rtt_s)
        self._number = 0
        self._outstanding: dict[int, tuple[float, int, bool]] = {}
        self._largest_acked = 0
        self._is_blocked = False
        if not log.end:
            log.append(_HEADER)

    def produced(self, step: int, is_last: bool, now: float) -> list[Packet]:
        """Append one frame, and close the log after the last."""
        num_tokens = self._sizes[step] if self._sizes else 1
        self.log.append(spoken(step, num_tokens, now))
        if is_last:
            self.log.close()
        return self.grown(now)

    def grown(self, now: float) -> list[Packet]:
        """Send what somebody else has appended."""
        return self._act(self.machine.feed(LogGrew(), now), now)

    def received(self, packet: Packet, now: float) -> list[Packet]:
        """Take the carrier's acknowledgements, then the reader's."""
        up = packet.content
        assert isinstance(up, _Up)
        self._confirm(up.numbers, now)
        packets = self._unblock(now)
        if up.catch_up is not None:
            packets += self._wrap(self._catch_up.acknowledged(up.catch_up, now), now)
        if up.datagram is not None:
            ack = decode_datagram(up.datagram)
            assert isinstance(ack, Ack)
            packets += self._act(self.machine.feed(AckReceived(ack), now), now)
        return packets

    def deadline(self) -> float | None:
        """The next timer of machine, carrier or catch-up stream."""
        is_waiting = self._is_blocked and self._congestion and not self._congestion.is_broken
        probe_at = self._congestion.probe_at if self._congestion and is_waiting else None
        moments = (self.machine.deadline(), self._catch_up.deadline(), probe_at)
        return min((at for at in moments if at is not None), default=None)

    def expire(self, now: float) -> list[Packet]:
        """Run the timers."""
        packets = self._unblock(now)
        packets += self._wrap(self._catch_up.expire(now), now)
        return packets + self._act(self.machine.expire(now), now)

    def _act(self, actions: list[SenderAction], now: float) -> list[Packet]:
        packets: list[Packet] = []
        for action in actions:
            if isinstance(action, Transmit):
                packets.append(self._packet(len(action.datagram), action.datagram, None, now))
                if self._congestion and not self._congestion.can_send(PACKET_BYTES, now):
                    self._is_blocked = True
                    self.machine.feed(CarrierBlocked(), now)
            elif isinstance(action, CatchUp):
                data = self.log.read(0)[action.start : action.stop]
                for offset in range(0, len(data), _CHUNK_BYTES):
                    piece = Piece(action.start + offset, data[offset : offset + _CHUNK_BYTES])
                    packets += self._wrap(self._catch_up.push(len(piece.data), piece, now), now)
        return packets

    def _wrap(self, segments: list[Packet], now: float) -> list[Packet]:
        packets: list[Packet] = []
        for segment in segments:
            assert isinstance(segment.content, Segment)
            packets.append(self._packet(segment.size_bytes, None, segment.content, now))
        return packets

    def _packet(
        self, payload_bytes: int, datagram: bytes | None, catch_up: Segment | None, now: float
    ) -> Packet:
        self._number += 1
        size_bytes = payload_bytes + OVERHEAD_BYTES
        if self._congestion is not None:
            is_reliable = catch_up is not None
            self._outstanding[self._number] = (now, size_bytes, is_reliable)
            self._congestion.feed(PacketSent(size_bytes, is_reliable), now)
        return Packet(size_bytes, _Down(self._number, datagram, catch_up))

    def _confirm(self, numbers: tuple[int, ...], now: float) -> None:
        congestion = self._congestion
        if congestion is None:
            return
        for number in numbers:
            if (sent := self._outstanding.pop(number, None)) is not None:
                self._largest_acked = max(number, self._largest_acked)
                rtt_s = now - sent[0] if number == numbers[-1] else None
                sent_at, size_bytes, is_reliable = sent
                congestion.feed(PacketAcked(size_bytes, sent_at, rtt_s, is_reliable), now)
        for number in [n for n in self._outstanding if n < self._largest_acked - 2]:
            sent_at, size_bytes, is_reliable = self._outstanding.pop(number)
            congestion.feed(PacketLost(size_bytes, sent_at, is_reliable), now)

    def _unblock(self, now: float) -> list[Packet]:
        if not self._is_blocked or not self._congestion:
            return []
        if not self._congestion.can_send(PACKET_BYTES, now):
            return []
        self._is_blocked = False
        return self._act(self.machine.feed(CarrierReady(), now), now)


class DatagramClient:
    """A machine that reads and a screen that shows at once."""

    def __init__(self, machine: DatagramReceiver | PublishedReceiver) -> None:
        self.machine = machine
        self.shown = bytearray()
        self.num_records = 0
        self._numbers: list[int] = []
        self._catch_up = SegmentReceiver()

    @property
    def num_rendered(self) -> int:
        """Frames shown so far: records without the header."""
        return max(0, self.num_records - 1)

    def received(self, packet: Packet, now: float) -> list[Packet]:
        """Take a packet: acknowledge it for the carrier, hand it to the machine."""
        down = packet.content
        assert isinstance(down, _Down)
        self._numbers = [*self._numbers[-_REMEMBERED:], down.number]
        acks: list[bytes] = []
        stream_ack: Acknowledgement | None = None
        if down.datagram is not None:
            snapshot = decode_datagram(down.datagram)
            assert isinstance(snapshot, Snapshot)
            acks = self._act(self.machine.feed(SnapshotReceived(snapshot), now), now)
        if down.catch_up is not None:
            ack_packet, pieces = self._catch_up.received(down.catch_up)
            assert isinstance(ack_packet.content, Acknowledgement)
            stream_ack = ack_packet.content
            for piece in pieces:
                assert isinstance(piece, Piece)
                acks += self._act(self.machine.feed(CatchUpReceived(piece), now), now)
        acks += self._act(self.machine.expire(now), now)
        return [self._packet(ack, None) for ack in acks[:-1]] + [
            self._packet(acks[-1] if acks else None, stream_ack)
        ]

    def deadline(self) -> float | None:
        """The machine's."""
        return self.machine.deadline()

    def expire(self, now: float) -> list[Packet]:
        """Run the machine's timers."""
        return [self._packet(ack, None) for ack in self._act(self.machine.expire(now), now)]

    def _act(self, actions: list[ReceiverAction], now: float) -> list[bytes]:
        acks: list[bytes] = []
        for action in actions:
            if isinstance(action, SendAck):
                acks.append(action.datagram)
            elif isinstance(action, Render):
                assert action.start == len(self.shown)
                self.shown += action.records
                self.num_records += sum(1 for _ in record_bounds(action.records))
                acks += self._act(self.machine.feed(Rendered(len(self.shown)), now), now)
        return acks

    def _packet(self, ack: bytes | None, stream_ack: Acknowledgement | None) -> Packet:
        up = _Up(tuple(self._numbers), ack, stream_ack)
        return Packet(OVERHEAD_BYTES + len(ack or b"") + 6, up)


def spoken(step: int, num_tokens: int, now: float) -> Frame:
    """Frame of one engine step: words and ids of an ordinary length."""
    numbers = range(step, step + num_tokens)
    text = "".join(_WORDS[number % len(_WORDS)] for number in numbers)
    ids = tuple((number * 7919) % 49_152 for number in numbers)
    return Frame(0, Channel.CONTENT, text, ids, round(now * 1e6))


def coded_bytes_per_step(sizes: Sequence[int] = ()) -> float:
    """Mean size of an engine step in a snapshot, in bytes."""
    numbers = sizes or [1] * 99
    items = [
        encode_item(encode(spoken(step, number, 0.02 * step)), 20_000 * max(0, step - 1))
        for step, number in enumerate(numbers)
    ]
    return sum(len(item) for item, _ in items) / len(items)


def ours(
    rtt_s: float, sizes: Sequence[int] = (), limits: SenderLimits | None = None
) -> tuple[DatagramServer, DatagramClient]:
    """The default scheme."""
    log = TokenLog(1 << 24)
    machine = DatagramSender(STREAM, log, limits=limits, rtt_s=rtt_s)
    server = DatagramServer(machine, log, rtt_s, TokenCongestion(rtt_s), sizes)
    return server, DatagramClient(DatagramReceiver(STREAM))


def published(
    rtt_s: float, sizes: Sequence[int] = (), max_tokens: int = 10
) -> tuple[DatagramServer, DatagramClient]:
    """The paper's scheme, on a carrier without a congestion window, as in the paper."""
    log = TokenLog(1 << 24)
    machine = PublishedSender(STREAM, log, max_tokens=max_tokens)
    server = DatagramServer(machine, log, rtt_s, sizes=sizes)
    return server, DatagramClient(PublishedReceiver(STREAM))
