"""What the Python codec and machines do, for the browser module's to do the same (`browser.json`).

.venv/bin/python -m tests.golden.browser_vectors > tests/golden/browser.json
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from math import isfinite
from pathlib import Path
from random import Random
from typing import Any

from headstart.client.errors import error_of
from headstart.client.offered import _address
from headstart.client.session_wire import Drop, Hello, Request, encode_message
from headstart.stages import errors
from headstart.stages.carrier_ladder import (
    Advanced,
    Available,
    CarrierLadder,
    Close,
    Failed,
    LadderAction,
    LadderEvent,
    Open,
    Opened,
    Quiet,
    Rung,
    Watch,
)
from headstart.stages.datagram_events import (
    Attach,
    CatchUpReceived,
    Complete,
    ReceiverAction,
    ReceiverEvent,
    Render,
    Rendered,
    SendAck,
    SnapshotReceived,
)
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.errors import HeadstartError, ProtocolViolation
from headstart.stages.frames import Channel, Frame, StreamHeader, encode, record_bounds
from headstart.stages.sse import parser_of, project, split_events
from headstart.stages.varint import put_varint
from headstart.stages.wire import (
    Ack,
    Piece,
    Snapshot,
    decode_datagram,
    encode_ack,
    encode_item,
    encode_slice,
    encode_snapshot,
    log_digest,
)

__all__ = ["FILE", "vectors"]

FILE = Path(__file__).parent / "browser.json"
SSE = Path(__file__).parent / "sse"
RECORDED = {
    "chat_unicode": "chat",
    "chat_tool": "chat",
    "chat_error": "chat",
    "completion_unicode": "completion",
    "completions_usage": "completion",
}
NUMBERS = (0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, 2**31 - 1, 2**31, 2**32, 2**40 + 5, 2**53 - 1)
TEXTS = ("", "a", " sechs!", "流れ", "é" * 20, "x" * 260, "\u2028\x00")
HEADER = StreamHeader(200, "text/event-stream", "chat", "chatcmpl-1", "tiny", 1_700_000_000)

Json = Any


def vectors() -> Json:
    """Make all of them, always the same."""
    return {
        "varints": [[number, put_varint(number).hex()] for number in NUMBERS],
        "sha256": [_digest(size) for size in (0, 1, 55, 56, 63, 64, 65, 119, 120, 1000)],
        "messages": _messages(),
        "acks": [_ack(Random(seed)) for seed in range(20)],
        "snapshots": [_snapshot(Random(seed)) for seed in range(12)],
        "malformed": _malformed(),
        "logs": [_log(name, api) for name, api in RECORDED.items()],
        "receivers": [_receiver_trace(Random(seed)) for seed in range(6)],
        "ladders": [_ladder_trace(Random(seed)) for seed in range(32)],
        "addresses": [_address_of(*one) for one in _ADDRESSES],
        "errors": [_error(kind) for kind in _kinds()],
        "refusals": [_refusal(*one) for one in _REFUSALS],
    }


def _digest(size: int) -> Json:
    data = bytes(index * 7 % 256 for index in range(size))
    return [data.hex(), sha256(data).hexdigest()]


def _messages() -> Json:
    path = "/v1/streams/a%20b?after=0"
    messages = (Hello(), Drop(7), Request("GET", path, (("authorization", "Bearer ü"),), 300))
    return [
        [json.loads(data[len(put_varint(len(data) - 2)) :]), data.hex()]
        for data in (encode_message(message) for message in messages)
    ]


def _ack(random: Random) -> Json:
    newest = random.choice(NUMBERS)
    ack = Ack(
        random.choice(NUMBERS),
        random.choice(NUMBERS),
        newest,
        random.randint(0, newest),
        random.choice(NUMBERS),
        random.choice(NUMBERS),
        random.choice((None, *NUMBERS)),
        has_gap=random.random() < 0.5,
        is_complete=random.random() < 0.5,
    )
    fields = {
        "stream": ack.stream,
        "have": ack.have,
        "newest": ack.newest,
        "numReceived": ack.num_received,
        "receivedUs": ack.received_us,
        "heldUs": ack.held_us,
        "renderedUs": ack.rendered_us,
        "hasGap": ack.has_gap,
        "isComplete": ack.is_complete,
    }
    return [fields, encode_ack(ack).hex()]


def _frame(random: Random, at_us: int) -> Frame:
    channel = random.choice((Channel.CONTENT, Channel.CONTENT, Channel.REASONING))
    tokens = tuple(random.choice(NUMBERS) for _ in range(random.choice((0, 1, 1, 1, 1, 3, 17))))
    choice = random.choice((0, 0, 0, 1, 200))
    return Frame(choice, channel, random.choice(TEXTS), tokens, at_us)


def _records(random: Random, count: int) -> list[bytes]:
    records, at_us = [encode(HEADER)], 0
    for _ in range(count):
        at_us += random.choice((0, 50, 20_000, 70_000, 2**33))
        frame = _frame(random, at_us)
        if random.random() < 0.1:
            frame = Frame(0, Channel.EVENT, "", (), at_us, b'{"choices":[]}')
        records.append(encode(frame))
    return records


def _items(records: list[bytes]) -> bytes:
    out, reference_us = b"", 0
    for record in records:
        item, reference_us = encode_item(record, reference_us)
        out += item
    return out


def _snapshot(random: Random) -> Json:
    runs = [
        (random.choice(NUMBERS), 0, _items(_records(random, random.randint(0, 9))))
        for _ in range(random.choice((1, 1, 1, 2, 3)))
    ]
    digest = random.choice((None, bytes(range(8))))
    data = encode_snapshot(random.choice(NUMBERS), random.choice(NUMBERS), runs, digest)
    snapshot = decode_datagram(data)
    assert isinstance(snapshot, Snapshot)
    told = {
        "stream": snapshot.stream,
        "number": snapshot.number,
        "digest": None if digest is None else digest.hex(),
        "pieces": [[piece.start, piece.data.hex()] for piece in snapshot.pieces],
    }
    return [told, data.hex()]


def _malformed() -> list[str]:
    """Datagrams that either end refuses to read as a snapshot."""
    good = encode_snapshot(3, 4, [(0, 0, _items(_records(Random(1), 4)))])
    bad = [b"", b"\x20", b"\x13", good[:1], good[:3], good[:-1], good + b"\x81"]
    bad += [good + b"\x80\x05a"]
    bad += [b"\x10" + b"\xff" * 12, b"\x10\x01\x01\x02\x00", good + b"\x08\x00\x7f\x01"]
    for data in bad:
        try:
            decode_datagram(data)
        except ProtocolViolation:
            continue
        raise AssertionError(data.hex())
    return [data.hex() for data in bad]


def _log(name: str, api: str) -> Json:
    """An answer of vLLM's, as records and as the event stream that a gateway makes of them."""
    payloads, _ = split_events((SSE / f"{name}.sse").read_bytes())
    parser = parser_of(api, 200, "text/event-stream; charset=utf-8")
    frames = [parser.parse(data, lambda _: (1, 2), 5 * n) for n, data in enumerate(payloads)]
    assert parser.header is not None
    log = b"".join([encode(parser.header), *map(encode, frames)])
    body, cursor = b"", 0
    for (_, cursor), frame in zip([*record_bounds(log)][1:], frames, strict=True):
        body += b"id: %d\n%b" % (cursor, project(parser.header, frame))
    return {"name": name, "log": log.hex(), "body": body.decode()}


@dataclass
class _Answer:
    """An answer that comes by datagrams and catch-up bytes, in any order and more than once."""

    random: Random
    records: list[bytes]
    digest: bytes
    number: int = 0

    @property
    def bounds(self) -> list[int]:
        """Every cursor between records."""
        return [0, *accumulate(map(len, self.records))]

    def next(self, receiver: DatagramReceiver) -> tuple[dict[str, Json], ReceiverEvent | None]:
        """What happens to the reader next, for the file and for the machine."""
        kinds = ("snapshot", "catchUp", "attach", "rendered", "expire")
        (kind,) = self.random.choices(kinds, (9, 1, 1, 5, 3))
        if kind == "snapshot":
            data = self._snapshot(*self._some(receiver.have))
            snapshot = decode_datagram(data)
            assert isinstance(snapshot, Snapshot)
            return {"do": kind, "datagram": data.hex()}, SnapshotReceived(snapshot)
        if kind == "catchUp":
            start, stop = (self.bounds[index] for index in self._some(receiver.have))
            piece = Piece(start, b"".join(self.records)[start:stop])
            return {"do": kind, "start": start, "stop": stop}, CatchUpReceived(piece)
        if kind == "rendered":
            return {"do": kind, "cursor": receiver.shown}, Rendered(receiver.shown)
        return {"do": kind}, Attach() if kind == "attach" else None

    def _some(self, have: int) -> tuple[int, int]:
        """Records around where the reader is."""
        near = min(range(len(self.bounds)), key=lambda index: abs(self.bounds[index] - have))
        last = len(self.records) - 1
        first = max(0, min(last, near + self.random.choice((-6, -3, -1, 0, 0, 0, 2))))
        return first, min(last + 1, first + self.random.randint(1, 8))

    def _snapshot(self, first: int, stop: int) -> bytes:
        self.number = max(0, self.number + self.random.choice((1, 1, 1, 2, -2, 40)))
        items, digest = _items(self.records[first:stop]), None
        if self.random.random() < 0.2:
            items = encode_slice(self.records[first][: self.random.randint(1, 9)])
        elif stop == len(self.records):
            digest = self.digest
        return encode_snapshot(9, self.number, [(self.bounds[first], 0, items)], digest)


def _receiver_trace(random: Random) -> Json:
    records = _records(random, 30)
    whole = b"".join(records)
    is_right = random.random() < 0.8
    answer = _Answer(random, records, log_digest(whole) if is_right else bytes(8))
    receiver, now, steps = DatagramReceiver(9), 100.0, []
    for _ in range(70):
        now += random.choice((0.0, 0.001, 0.004, 0.02, 0.02, 0.3, 1.5, 3.5))
        step, event = answer.next(receiver)
        step["at"] = now
        steps.append(step)
        try:
            done = receiver.expire(now) if event is None else receiver.feed(event, now)
        except ProtocolViolation:
            step["refused"] = True
            break
        due = receiver.deadline()
        step["actions"] = [_receiver_action(action) for action in done]
        step["deadline"] = due if due is not None and isfinite(due) else None
        step |= {"have": receiver.have, "shown": receiver.shown}
    return {"log": whole.hex(), "steps": steps}


def _receiver_action(action: ReceiverAction) -> Json:
    if isinstance(action, Render):
        return {"type": "render", "start": action.start, "size": len(action.records)}
    if isinstance(action, SendAck):
        return {"type": "ack", "datagram": action.datagram.hex()}
    return {"type": "complete" if isinstance(action, Complete) else "quiet"}


def _ladder_trace(random: Random) -> Json:
    has_datagrams = random.random() < 0.9
    ladder, now, steps = CarrierLadder(has_datagrams), 50.0, []
    start = [_ladder_action(action) for action in ladder.start()]
    for _ in range(40):
        now += random.choice((0.0, 0.01, 0.1, 0.31, 1.0, 5.0, 40.0))
        rung = random.choice(list(Rung))
        kinds = ("advanced", "opened", "failed", "quiet", "available", "expire")
        (kind,) = random.choices(kinds, (6, 1, 3, 1, 1, 3))
        step: dict[str, Json] = {"at": now, "do": kind, "rung": rung}
        if kind == "advanced":
            step["cursor"] = ladder.cursor + random.choice((-30, 0, 10, 100))
            done = ladder.feed(Advanced(rung, step["cursor"]), now)
        elif kind == "expire":
            done = ladder.expire(now)
        else:
            done = ladder.feed(_LADDER_EVENTS[kind](rung), now)
        step["actions"] = [_ladder_action(action) for action in done]
        step |= {"deadline": ladder.deadline(), "rungs": sorted(ladder.rungs)}
        steps.append(step)
    return {"hasDatagrams": has_datagrams, "start": start, "steps": steps}


_LADDER_EVENTS: dict[str, Callable[[Rung], LadderEvent]] = {
    "opened": Opened,
    "failed": Failed,
    "quiet": Quiet,
    "available": Available,
}


def _ladder_action(action: LadderAction) -> Json:
    if isinstance(action, Open):
        return {"type": "open", "rung": action.rung, "after": action.after}
    if isinstance(action, Close):
        return {"type": "close", "rung": action.rung}
    if isinstance(action, Watch):
        return {"type": "watch", "rung": action.rung}
    return {"type": "give up"}


_NOT_A_READERS = {
    "SetupError",
    "Overloaded",
    "NotContinued",
    "LiveRefused",
    "LiveConflict",
    "ContextLengthExceeded",
    "ModelNotFound",
}
"""What no client tells from its base, and what only live prompts give."""


def _kinds() -> list[type[HeadstartError]]:
    return [getattr(errors, name) for name in errors.__all__ if name not in _NOT_A_READERS]


def _error(kind: type[HeadstartError]) -> Json:
    return {
        "name": kind.__name__,
        "base": None if kind is HeadstartError else kind.__base__.__name__,  # type: ignore[union-attr]
        "status": kind.http_status,
        "type": kind.kind,
        "isRetryable": kind.is_retryable,
    }


_ADDRESSES = (
    ("127.0.0.1", "127.0.0.1", True),
    ("127.0.0.1", "192.0.2.7", True),
    ("::1", "localhost", True),
    ("::1", "llm.example.org", True),
    ("localhost", "llm.example.org", True),
    ("192.0.2.1", "llm.example.org", True),
    ("192.0.2.1", "llm.example.org", False),
    ("llm.example.net", "127.0.0.1", False),
)


def _address_of(announced: str, asked: str, is_pinned: bool) -> Json:
    host = _address(announced, asked, is_pinned)
    return {"announced": announced, "asked": asked, "isPinned": is_pinned, "host": host}


_REFUSALS = (
    (404, b'{"error":{"message":"no","type":"NotFoundError","param":"model","code":404}}'),
    (429, b'{"error":{"message":"later","type":"RateLimitError","param":null,"code":429}}'),
    (400, b'{"error":{"message":"bad","type":"Unheard of","param":"body","code":400}}'),
    (500, b'{"error":{"message":"broken","type":"InternalServerError","param":null,"code":500}}'),
    (502, b"<html>Bad Gateway</html>"),
    (418, b""),
)


def _refusal(status: int, body: bytes) -> Json:
    error = error_of(status, body)
    told = {"name": type(error).__name__, "message": error.message, "param": error.param}
    return [status, body.decode(), told]


if __name__ == "__main__":
    json.dump(vectors(), sys.stdout, ensure_ascii=False, separators=(",", ":"))
    sys.stdout.write("\n")
