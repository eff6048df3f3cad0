# Invariant: whatever comes to the UDP port, from nobody or from a peer that has shaken hands,
# nothing is raised, what is held stays bounded, and the next honest client opens its session.
"""Damaged handshakes at the gateway's socket, and damaged HTTP/3 inside of good ones."""

import asyncio
import time
from typing import Any

from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import FrameType, StreamType
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.client.quic_carrier import MAX_DATAGRAM_FRAME, QuicCarrier
from headstart.client.quic_connect import Trust, open_carrier
from headstart.client.quic_framing import ALPN, WEBTRANSPORT_ALPN
from headstart.configs.serving import QuicSettings
from tests.support.carriers import Pair, Told, pair
from tests.support.waiting import eventually

MAX_HELD_BYTES = 1 << 20
"""Frames that never come whole: what aioquic hands over at once may be so much beyond our limit."""
NUM_HALF_OPEN = 4

damages = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 1199), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0, 1199)),
    st.tuples(st.just("insert"), st.integers(0, 1199), st.binary(min_size=1, max_size=30)),
)
packets = st.tuples(
    st.sampled_from([ALPN, WEBTRANSPORT_ALPN, "h3-29"]),
    st.lists(damages, max_size=3),
    st.integers(1, 3),
    st.integers(0, 9),
)
"""Protocol, what is done to a client's first packet, how often it comes, and from which port."""

frames = st.builds(
    lambda kind, size, data: encode_uint_var(kind) + encode_uint_var(size) + data,
    st.sampled_from([int(kind) for kind in FrameType]) | st.integers(0, 1 << 40),
    st.integers(0, 40) | st.integers(0, (1 << 62) - 1),
    st.binary(max_size=40) | st.sampled_from([20_000, 300_000, 3_000_000]).map(bytes),
)
streams = st.builds(
    lambda kind, parts: encode_uint_var(kind) + b"".join(parts),
    st.sampled_from([int(kind) for kind in StreamType]) | st.integers(0, 1 << 40),
    st.lists(frames, max_size=3),
)
said = frames | streams | st.binary(max_size=60)
steps = st.one_of(
    st.tuples(st.just("new"), st.booleans(), said, st.booleans()),
    st.tuples(st.just("more"), st.integers(0, 3), said, st.booleans()),
    st.tuples(st.just("reset"), st.integers(0, 3)),
    st.tuples(st.just("datagram"), st.binary(max_size=60)),
)


def first_packet(alpn: str) -> bytes:
    """What a client begins a handshake with."""
    configuration = QuicConfiguration(
        alpn_protocols=[alpn],
        max_datagram_frame_size=MAX_DATAGRAM_FRAME,
        server_name="localhost",
    )
    client = QuicConnection(configuration=configuration)
    client.connect(("127.0.0.1", 1), now=0.0)
    packet: bytes = client.datagrams_to_send(now=0.0)[0][0]
    return packet


def damaged(packet: bytes, how: tuple[Any, ...]) -> bytes:
    match how:
        case ("flip", at, bits) if at < len(packet):
            found = bytearray(packet)
            found[at] ^= bits
            return bytes(found)
        case ("cut", at):
            return packet[: int(at)]
        case ("insert", at, data):
            return b"".join((packet[:at], data, packet[at:]))
    return packet


def held_bytes(carrier: QuicCarrier) -> int:
    waiting = sum(len(each.receiver._buffer) for each in carrier.quic._streams.values())
    h3 = getattr(carrier._framing, "h3", None)
    return waiting + (sum(len(each.buffer) for each in h3._stream.values()) if h3 else 0)


async def serves(ends: Pair, *, is_webtransport: bool) -> None:
    """An honest client gets in."""
    assert ends.listener is not None
    client = await open_carrier(
        "127.0.0.1",
        ends.listener.port,
        lambda carrier, path: Told(),
        Trust(ends.hashes),
        is_webtransport=is_webtransport,
    )
    client.close()


async def watched(history: Any, play: Any) -> None:
    """Play with errors that nobody catches collected."""
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: errors.append(what))
    await play(history)
    assert errors == []


async def knock(history: list[tuple[str, list[tuple[Any, ...]], int, int]]) -> None:
    # So few half-open ones that some of these have to prove their address.
    async with pair("plain", QuicSettings(retry_above=NUM_HALF_OPEN)) as ends:
        assert ends.listener is not None
        for alpn, damage, count, port in history:
            packet = first_packet(alpn)
            for how in damage:
                packet = damaged(packet, how)
            for _ in range(count):
                ends.listener.datagram_received(packet, ("127.0.0.1", 40_000 + port))
        await serves(ends, is_webtransport=False)


@settings(max_examples=40, deadline=None)
@given(st.lists(packets, max_size=8))
def test_the_socket_takes_anything(
    history: list[tuple[str, list[tuple[Any, ...]], int, int]],
) -> None:
    asyncio.run(watched(history, knock))


async def speak(history: list[tuple[Any, ...]]) -> None:
    async with pair("webtransport") as ends:
        client, server = ends.client.carrier, ends.server.carrier
        assert isinstance(client, QuicCarrier)
        assert isinstance(server, QuicCarrier)
        opened: list[int] = []
        for step in history:
            match step:
                case ("new", is_unidirectional, data, is_end):
                    opened.append(
                        client.quic.get_next_available_stream_id(
                            is_unidirectional=is_unidirectional
                        )
                    )
                    client.write(opened[-1], data, is_end=is_end)
                case ("more", which, data, is_end) if which < len(opened):
                    client.write(opened[which], data, is_end=is_end)
                case ("reset", which) if which < len(opened):
                    client.reset_stream(opened[which])
                case ("datagram", data):
                    client.quic.send_datagram_frame(data)
                    client.transmit()
        until = time.monotonic() + 0.1
        most = 0

        def is_taken() -> bool:
            nonlocal most
            most = max(most, held_bytes(server))
            has_all = not any(map(client.backlog, opened))
            return has_all or ends.server.told.closed_for is not None or time.monotonic() > until

        await eventually(is_taken)
        assert most <= MAX_HELD_BYTES
        await serves(ends, is_webtransport=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=10))
def test_http3_takes_anything(history: list[tuple[Any, ...]]) -> None:
    asyncio.run(watched(history, speak))
