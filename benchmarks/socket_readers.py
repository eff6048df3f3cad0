"""Readers of one connection each, over TCP and over QUIC, that note when more could be shown."""

import asyncio
import time
from abc import ABC, abstractmethod
from enum import StrEnum

import httptools
import msgspec

from headstart.benchmarks.link_flows import TCP, UDP
from headstart.benchmarks.socket_orders import Door
from headstart.client.events import EventSplitter
from headstart.client.quic_connect import Trust
from headstart.client.quic_session import QuicSession, connect
from headstart.stages.datagram_receiver import DatagramReceiver
from headstart.stages.frames import decode_frame, record_bounds
from headstart.stages.published_eloquent import PublishedReceiver

__all__ = ["Arm", "Reader", "Shown", "connected"]

PATH = "/v1/chat/completions"
HEADERS = (("content-type", "application/json"),)
CONNECT_S = 10.0
_READ_BYTES = 1 << 16


class Arm(StrEnum):
    """What is compared."""

    CUBIC = "SSE, TCP cubic"
    BBR = "SSE, TCP bbr"
    STREAM = "WebTransport stream"
    """A WebTransport session over HTTP/3, the answer on one reliable stream of it. aioquic opens
    none without datagrams negotiated; its gateway sends none. Its QUIC has our congestion control,
    as the arms of datagrams, which are plain QUIC."""
    PUBLISHED = "datagrams as published"
    OURS = "our datagrams"

    @property
    def is_tcp(self) -> bool:
        return self in (Arm.CUBIC, Arm.BBR)

    @property
    def protocol(self) -> int:
        """IP's number for what it runs on."""
        return TCP if self.is_tcp else UDP


class Shown(msgspec.Struct):
    """How much of an answer could be shown, and when."""

    id: str = ""
    tokens: list[int] = []
    at: list[float] = []
    is_whole: bool = False
    why: str = "given up"
    """What is known where it is not."""

    def more(self, num_tokens: int) -> None:
        """Note that so many more tokens can be shown now."""
        if num_tokens:
            self.tokens.append(num_tokens + (self.tokens[-1] if self.tokens else 0))
            self.at.append(time.monotonic())


class Reader(ABC):
    """One connection."""

    shown: Shown
    """What has come of the answer that it reads, or has read last."""

    @property
    @abstractmethod
    def port(self) -> int: ...

    @abstractmethod
    async def read(self, body: bytes) -> Shown:
        """Ask, read to the end, and say when more could be shown."""

    @abstractmethod
    def close(self) -> None: ...


class EventReader(Reader):
    """Server-sent events over a TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.shown = Shown()
        self._reader, self._writer = reader, writer
        self._splitter = EventSplitter()
        self._is_over = False

    @property
    def port(self) -> int:
        port: int = self._writer.get_extra_info("sockname")[1]
        return port

    async def read(self, body: bytes) -> Shown:
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        parser = httptools.HttpResponseParser(self)
        while not self._is_over and (data := await self._reader.read(_READ_BYTES)):
            parser.feed_data(data)
        self.shown.is_whole = self._is_over and parser.get_status_code() == 200
        return self.shown

    def close(self) -> None:
        self._writer.transport.abort()

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-headstart-stream":
            self.shown.id = value.decode()

    def on_body(self, data: bytes) -> None:
        self.shown.more(sum(_has_text(event.payload) for event in self._splitter.feed(data)))

    def on_message_complete(self) -> None:
        self._is_over = True


class SessionReader(Reader):
    """A token log over a QUIC session."""

    def __init__(self, session: QuicSession) -> None:
        self.shown = Shown()
        self._session = session

    @property
    def port(self) -> int:
        port: int = self._session.carrier.transport.get_extra_info("sockname")[1]  # type: ignore[attr-defined]
        return port

    async def read(self, body: bytes) -> Shown:
        shown = self.shown = Shown()
        reading = await self._session.ask("POST", PATH, HEADERS, body)
        shown.id = reading.stream_id or ""
        is_header = True
        async for records in reading.records():
            num_tokens = 0
            for start, stop in record_bounds(records):
                if not is_header:
                    num_tokens += len(decode_frame(records[start:stop]).tokens)
                is_header = False
            shown.more(num_tokens)
        shown.is_whole = reading.is_whole and reading.error is None
        shown.why = str((reading.error or {}).get("message") or bytes(reading.body[:200]))
        return shown

    def close(self) -> None:
        self._session.close()


def _has_text(payload: bytes) -> bool:
    """Whether an event holds a token: a chunk has one here, or none."""
    return b'"content":"' in payload and b'"content":""' not in payload


async def connected(arm: Arm, door: Door, address: str) -> Reader:
    """Open a connection.

    Args:
        address: The client's own, for TCP.
    """
    async with asyncio.timeout(CONNECT_S):
        if arm.is_tcp:
            return EventReader(
                *await asyncio.open_connection(door.host, door.port, local_addr=(address, 0))
            )
        session = await connect(
            door.host,
            door.port,
            Trust(frozenset(bytes.fromhex(each) for each in door.hashes)),
            is_webtransport=arm is Arm.STREAM,
            timeout_s=CONNECT_S,
            receiver=PublishedReceiver if arm is Arm.PUBLISHED else DatagramReceiver,
        )
        return SessionReader(session)
