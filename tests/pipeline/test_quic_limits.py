"""What a peer without a key can take from the gateway's UDP side."""

from functools import partial

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import FrameType

from headstart.client.quic_carrier import QuicCarrier
from headstart.client.webtransport import WebTransportServer
from tests.support.carriers import Pair, pair
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio


def held_bytes(ends: Pair) -> int:
    """Memory of stream data that has not been passed on."""
    carrier = ends.server.carrier
    assert isinstance(carrier, QuicCarrier)
    return sum(len(stream.receiver._buffer) for stream in carrier.quic._streams.values())


async def test_one_byte_far_ahead_does_not_buy_memory() -> None:
    async with pair("plain") as ends:
        client = ends.client.carrier
        assert isinstance(client, QuicCarrier)
        stream_id = client.open_stream(is_bidirectional=True)
        stream = client.quic._streams[stream_id]
        most = 0

        def has_answered(limit: int) -> bool:
            return stream.max_stream_data_remote > limit or ends.client.told.closed_for is not None

        for _ in range(7):
            limit = stream.max_stream_data_remote
            stream.sender._buffer_start = stream.sender._buffer_stop = limit - 2
            client.write(stream_id, b"x")
            await eventually(partial(has_answered, limit))
            most = max(most, held_bytes(ends))

        assert ends.server.told.closed_for is not None
        assert "waits for what is before it" in (ends.client.told.closed_for or "")
        assert most <= 4 << 20


async def test_a_long_body_in_order_is_taken_whatever_its_length() -> None:
    async with pair("plain") as ends:
        stream_id = ends.client.carrier.open_stream(is_bidirectional=True)
        ends.client.carrier.write(stream_id, bytes(3 << 20), is_end=True)

        await eventually(lambda: stream_id in ends.server.told.ended)
        assert ends.server.told.closed_for is None


@pytest.mark.parametrize("num_streams", [1, 20])
async def test_a_frame_that_never_comes_whole_does_not_buy_memory(num_streams: int) -> None:
    async with pair("webtransport") as ends:
        client, server = ends.client.carrier, ends.server.carrier
        assert isinstance(client, QuicCarrier)
        assert isinstance(server, QuicCarrier)
        framing = server._framing
        assert isinstance(framing, WebTransportServer)
        begun = encode_uint_var(FrameType.HEADERS) + encode_uint_var(1 << 30)
        streams = []
        for _ in range(num_streams):
            streams.append(client.quic.get_next_available_stream_id())
            client.write(streams[-1], begun)
        most = 0

        def is_over() -> bool:
            nonlocal most
            held = [len(each.buffer) for each in framing.h3._stream.values()]
            most = max(most, sum(held))
            return ends.server.told.closed_for is not None

        for _ in range(40):
            for stream_id in streams:
                client.write(stream_id, bytes((2 << 20) // 40 // num_streams))
            await eventually(lambda: is_over() or not client.backlog(streams[-1]))
            if is_over():
                break

        assert ends.server.told.closed_for == "a frame is too long"
        assert most < 1 << 20
