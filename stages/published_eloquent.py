"""Token streaming exactly as the Eloquent paper gives it (arXiv 2401.12961, algorithms 1 and 2).

For comparison only; `datagram_sender` is what readers get. Every packet is the newest token and the
oldest un-acknowledged ones that fit; each packet is acknowledged for itself; the only timer repeats
after 200 ms without a new token; the sender ends when the end and all before it are acknowledged.
Tokens are the records of the log, and travel verbatim: the paper gives no format.
"""

from dataclasses import dataclass

from headstart.stages.datagram_events import (
    AckReceived,
    Cause,
    Finished,
    LogGrew,
    ReceiverAction,
    ReceiverEvent,
    SendAck,
    SenderAction,
    SenderEvent,
    SnapshotReceived,
    Transmit,
)
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.errors import ProtocolViolation
from headstart.stages.frames import record_bounds
from headstart.stages.record_cut import last_cut
from headstart.stages.token_log import TokenLog
from headstart.stages.wire import Ack, encode_ack, encode_slice, encode_snapshot, log_digest

__all__ = ["PublishedReceiver", "PublishedSender"]

_TIMER_S = 0.2
"""The paper's."""
_MAX_TOKENS = 10
"""Section 4.1: tokens in one packet."""
_MAX_CARRIED = 1024
"""Datagrams whose acknowledgement is still understood."""
_RUN_BYTES = 32
"""More than the fields around one run of a snapshot take."""


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    data: bytes
    """Empty for the end of the answer, which is a token too."""


class PublishedSender:
    """Algorithm 1.

    Args:
        stream: The session's number for the answer.
        log: Read, never changed; tell the machine when it grows.
        max_payload: Most bytes of one datagram.
        max_tokens: Most tokens of one datagram.
    """

    def __init__(
        self,
        stream: int,
        log: TokenLog,
        have: int = 0,
        max_payload: int = 1150,
        max_tokens: int = _MAX_TOKENS,
    ) -> None:
        self.stream = stream
        self.is_finished = False
        self._log = log
        self._max_payload = max_payload
        self._max_tokens = max_tokens
        self._taken = have
        self._unacked: dict[int, _Token] = {}
        """By cursor, oldest first; the end of the answer under -1."""
        self._carried: dict[int, tuple[int, ...]] = {}
        """Keys in `_unacked`, by the number of the datagram; of the newest ones only."""
        self._digest: bytes | None = None
        self._number = 0
        self._is_end_taken = False
        self._woke_at = float("-inf")

    @property
    def confirmed(self) -> int:
        """Cursor up to which the reader has everything."""
        return min((token.start for token in self._unacked.values()), default=self._taken)

    def feed(self, event: SenderEvent, now: float) -> list[SenderAction]:
        """Take one event.

        Raises:
            ProtocolViolation: An acknowledgement claims what was never sent.
        """
        if isinstance(event, AckReceived):
            return self._take_ack(event.ack)
        if not isinstance(event, LogGrew) or self.is_finished:
            return []
        actions: list[SenderAction] = []
        for token in self._new_tokens():
            actions.append(self._send(token, now))
            self._unacked[token.start if token.data else -1] = token
        return actions

    def deadline(self) -> float | None:
        """When the timer of 200 ms runs out."""
        return self._woke_at + _TIMER_S if self._unacked and not self.is_finished else None

    def expire(self, now: float) -> list[SenderAction]:
        """Repeat the oldest un-acknowledged tokens if the timer has run out."""
        due = self.deadline()
        return [] if due is None or now < due else [self._send(None, now)]

    def _new_tokens(self) -> list[_Token]:
        tokens: list[_Token] = []
        data, first = self._log.read(self._taken), 0
        room = self._max_payload - 2 * _RUN_BYTES
        for _, stop in record_bounds(data):
            record, offset = data[first:stop], 0
            while offset < len(record):
                cut = min(len(record), offset + room)
                cut = cut if cut == len(record) else last_cut(record, cut)
                tokens.append(_Token(self._taken, record[offset:cut]))
                self._taken += cut - offset
                offset = cut
            first = stop
        if self._log.is_closed and not self._is_end_taken:
            self._is_end_taken = True
            tokens.append(_Token(self._taken, b""))
        return tokens

    def _send(self, new: _Token | None, now: float) -> Transmit:
        chosen: dict[int, _Token] = {}
        if new is not None:
            chosen[new.start if new.data else -1] = new
        room = self._max_payload - _RUN_BYTES - sum(_size(token) for token in chosen.values())
        for key, token in self._unacked.items():
            room -= _size(token)
            if room < 0 or len(chosen) == self._max_tokens:
                break
            chosen[key] = token
        self._number += 1
        self._woke_at = now
        self._carried[self._number] = tuple(chosen)
        # What was lost would lie here for good; an older one's tokens were sent again long since.
        self._carried.pop(self._number - _MAX_CARRIED, None)
        # The end, of which the cursor is the highest and the data empty, must come last.
        tokens = sorted(chosen.values(), key=lambda token: (token.start, not token.data))
        runs = [(token.start, 0, encode_slice(token.data)) for token in tokens]
        digest = self._whole_digest() if -1 in chosen else None
        return Transmit(
            encode_snapshot(self.stream, self._number, runs, digest),
            Cause.REPEAT if new is None else Cause.NEW,
            0 if new is None else len(new.data),
        )

    def _whole_digest(self) -> bytes:
        if self._digest is None:
            self._digest = log_digest(self._log.read(0))
        return self._digest

    def _take_ack(self, ack: Ack) -> list[SenderAction]:
        if ack.newest > self._number or ack.have > self._taken:
            raise ProtocolViolation("acknowledgement of bytes never sent")
        for key in self._carried.pop(ack.newest, ()):
            self._unacked.pop(key, None)
        # Algorithm 1 stops at the end's acknowledgement even where older tokens lack theirs, which
        # leaves the reader without them; here they are waited for.
        if self.is_finished or self._unacked or not self._is_end_taken:
            return []
        self.is_finished = True
        return [Finished()]


def _size(token: _Token) -> int:
    return len(token.data) + _RUN_BYTES


class PublishedReceiver:
    """Algorithm 2: shows what is contiguous, acknowledges each packet for itself."""

    def __init__(self, stream: int, log: bytes = b"") -> None:
        self.stream = stream
        self._inner = DatagramReceiver(stream, log)

    @property
    def have(self) -> int:
        """Cursor up to which everything is here."""
        return self._inner.have

    @property
    def shown(self) -> int:
        """Cursor up to which whole records were handed on."""
        return self._inner.shown

    @property
    def log(self) -> bytes:
        """The token log as far as it is here."""
        return self._inner.log

    def read(self, after: int) -> bytes:
        """Return the whole records past a cursor."""
        return self._inner.read(after)

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer is here and has been checked."""
        return self._inner.is_complete

    def feed(self, event: ReceiverEvent, now: float) -> list[ReceiverAction]:
        """Take one event.

        Raises:
            ProtocolViolation: The sender contradicts itself, or the digest is wrong.
        """
        actions: list[ReceiverAction] = [
            action for action in self._inner.feed(event, now) if not isinstance(action, SendAck)
        ]
        if isinstance(event, SnapshotReceived):
            number = event.snapshot.number
            ack = Ack(self.stream, self.have, number, is_complete=self.is_complete)
            actions.append(SendAck(encode_ack(ack)))
        return actions

    def deadline(self) -> float | None:
        """None: the paper's reader has no timer."""
        return None

    def expire(self, now: float) -> list[ReceiverAction]:
        """Nothing is ever due."""
        return []
