"""What a QUIC client does wrong, or on purpose: refused or ignored, and everyone else goes on."""

import asyncio
import socket
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import msgspec
import pytest

from headstart.client.quic_connect import Trust
from headstart.client.quic_framing import ALPN
from headstart.client.quic_session import QuicSession, connect
from headstart.client.session_wire import Hello, Request, encode_message
from headstart.client.webtransport import WebTransportClient
from headstart.configs.serving import GatewaySettings, QuicSettings
from headstart.pipeline.quic_exchange import Exchange
from headstart.pipeline.quic_session import Session
from headstart.stages.errors import NotFound
from headstart.stages.wire import Ack, Snapshot, decode_datagram, encode_ack
from tests.support.gateway import CHAT, COMPLETIONS, Gateway, saying, serving, speeds
from tests.support.sessions import asking, session_with, whole
from tests.support.waiting import eventually, soon

if TYPE_CHECKING:
    from aioquic.tls import SessionTicket

pytestmark = pytest.mark.anyio

SLOW = speeds(tokens_per_s=50.0, answer_tokens=2000)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with serving(
        speeds(tokens_per_s=200.0, answer_tokens=40), quic=QuicSettings()
    ) as gateway:
        yield gateway


async def serves(gateway: Gateway) -> None:
    """Check that another client is served as ever."""
    async with session_with(gateway) as session:
        await whole(await asking(session))


async def closed(session: QuicSession) -> str:
    await soon(session.wait_closed())
    assert session.closed_for is not None
    return session.closed_for


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (encode_message(Hello(version=2)), "session version 1 is spoken here"),
        (b"\x05hello", "not a message"),
        (b"\xff\xff\xff\x7f", "is too long"),
        (b"\xff" * 20, "a number of more than 9 bytes"),
        (encode_message(Hello()), "one control stream"),
        (b'\x0e{"type":"drop"}'[:-1] + b"}", "not a message"),
        (b"\x1b" + b'{"type":"drop","number":12}', "begins with hello or request"),
        (b"", "ended before it said"),
    ],
)
async def test_what_is_no_session_is_closed(gateway: Gateway, said: bytes, reason: str) -> None:
    async with session_with(gateway) as session:
        await eventually(lambda: session.greeting is not None)
        stream = session.carrier.open_stream(is_bidirectional=True)
        session.carrier.write(stream, said, is_end=True)

        assert reason in await closed(session)
    await serves(gateway)


async def test_another_version_does_not_get_past_the_handshake(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstart.client.quic_connect.ALPN", "headstart/2")
    with pytest.raises(ConnectionError):
        async with session_with(gateway):
            pass
    monkeypatch.setattr("headstart.client.quic_connect.ALPN", ALPN)
    await serves(gateway)


async def test_another_certificate_is_not_trusted(gateway: Gateway) -> None:
    assert gateway.quic is not None
    with pytest.raises(ConnectionError, match="announced"):
        await connect("127.0.0.1", gateway.quic.port, Trust(frozenset({bytes(32)})))
    with pytest.raises(ConnectionError):
        await connect("127.0.0.1", gateway.quic.port, Trust())
    await serves(gateway)


async def test_packets_that_are_not_quic_are_ignored(gateway: Gateway) -> None:
    assert gateway.quic is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in (
            b"",
            b"\xc0",
            b"GET / HTTP/1.1\r\n",
            bytes(1200),
            b"\xff" * 1200,
            b"\x40" * 99,
        ):
            sender.sendto(data, ("127.0.0.1", gateway.quic.port))
    await serves(gateway)


async def test_forged_acknowledgements_are_refused_and_counted(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        reading = await asking(session)
        number = reading.number
        forged = [
            encode_ack(Ack(number, have=1 << 40, newest=1, num_received=1)),
            encode_ack(Ack(number, have=0, newest=1 << 30, num_received=1)),
            encode_ack(Ack(number, have=0, is_complete=True)),
        ]
        for data in forged:
            session.carrier.send_latest(number + 100, data)
        session.carrier.send_latest(number + 101, encode_ack(Ack(number + 55, have=7)))
        session.carrier.send_latest(number + 102, b"garbage")
        session.carrier.send_latest(number + 103, b"")
        await whole(reading)

        exposition = gateway.exposition()
        assert exposition.value("headstart_acks_total", outcome="refused") == 3
        assert exposition.value("headstart_acks_total", outcome="malformed") == 2


async def test_a_flood_of_acknowledgements_is_not_looked_at() -> None:
    settings = QuicSettings(max_acks_per_s=20)
    async with serving(SLOW, quic=settings) as gateway, session_with(gateway) as session:
        reading = await asking(session)
        for _ in range(300):
            session.carrier.send_latest(1 << 20, encode_ack(Ack(reading.number, have=0)))
            await asyncio.sleep(0)

        def limited() -> float:
            return gateway.exposition().value("headstart_acks_total", outcome="limited")

        await eventually(lambda: limited() > 20)
        seen = len(reading.log)
        await eventually(lambda: len(reading.log) > seen)


async def test_a_client_that_confirms_nothing_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("headstart.pipeline.log_reader._SILENCE_S", 0.3)
    async with serving(SLOW, quic=QuicSettings()) as gateway:
        async with session_with(gateway) as session:
            monkeypatch.setattr(session, "_send", lambda number, data: None)
            reading = await asking(session)
            await soon(reading.finished())

            assert reading.error is not None
            assert reading.error["type"] == "RequestTimeoutError"
            assert session.closed_for is None
            await soon(session.stop(reading.stream_id or ""))
        await gateway.unused()


async def test_a_client_that_confirms_the_same_again_and_again_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    impatient = GatewaySettings(send_timeout_s=0.3, shutdown_grace_s=0)
    async with (
        serving(SLOW, quic=QuicSettings(), settings=impatient) as gateway,
        session_with(gateway) as session,
    ):

        def repeat(number: int, _: bytes) -> None:
            session.carrier.send_latest(number, encode_ack(Ack(number, have=0)))

        def is_over_at_a_tick() -> bool:
            assert gateway.quic is not None
            gateway.quic.tick()
            return reading.is_over

        monkeypatch.setattr(session, "_send", repeat)
        reading = await asking(session)
        await eventually(is_over_at_a_tick)

        assert reading.error is not None
        assert "nothing of the answer was taken" in reading.error["message"]
        await soon(session.stop(reading.stream_id or ""))


async def test_a_connection_reads_so_many_answers_and_each_under_its_own_number() -> None:
    settings = QuicSettings(max_streams=2)
    async with serving(SLOW, quic=settings) as gateway, session_with(gateway) as session:
        first = await asking(session)
        request = Request("GET", f"/v1/streams/{first.stream_id}", number=first.number)
        stream = session.carrier.open_stream(is_bidirectional=True)
        got = bytearray()
        told = session.stream_data

        def overhear(stream_id: int, data: bytes, is_end: bool) -> None:
            if stream_id == stream:
                got.extend(data)
            else:
                told(stream_id, data, is_end)

        session.stream_data = overhear  # type: ignore[method-assign]
        session.carrier.write(stream, encode_message(request), is_end=True)
        await eventually(lambda: b"is in use" in got)

        await asking(session)
        third = await asking(session)
        await soon(third.finished())
        assert third.answer is not None
        assert third.answer.status == 503
        assert b"reads 2 answers already" in third.body

        # What makes room needs none.
        assert (await soon(session.stop(first.stream_id or ""))).status == 204


async def test_a_client_that_never_says_hello_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        QuicSession, "began", lambda session, carrier: setattr(session, "_carrier", carrier)
    )
    quick = speeds(tokens_per_s=200.0, answer_tokens=4)
    settings = QuicSettings(max_streams=2)
    async with serving(quick, quic=settings) as gateway, session_with(gateway) as session:
        assert gateway.quic is not None
        await asking(session)
        (server,) = gateway.quic._sessions
        await eventually(lambda: not server._readers)
        await asking(session)
        await eventually(lambda: not server._readers)
        assert len(server._unsaid) == 2
        await asking(session)
        assert "nobody has said hello" in await closed(session)


async def test_a_stop_that_is_refused_says_so(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        with pytest.raises(NotFound):
            await soon(session.stop("nobody-made-this"))
        session.carrier.close()
        with pytest.raises(ConnectionError):
            await soon(session.stop("nobody-made-this"))


async def test_bodies_are_bounded_as_they_are_over_http() -> None:
    limits = GatewaySettings(max_body_bytes=2048, shutdown_grace_s=0)
    async with serving(settings=limits, quic=QuicSettings()) as gateway:
        async with session_with(gateway) as session:
            body = msgspec.json.encode({"prompt": "x" * 100_000})
            reading = await soon(session.ask("POST", COMPLETIONS, body=body))
            await soon(reading.finished())

            assert reading.answer is not None
            assert reading.answer.status == 413
        await serves(gateway)


async def test_a_client_has_so_many_streams_and_no_more(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        await eventually(lambda: session.greeting is not None)
        for _ in range(100):
            stream = session.carrier.open_stream(is_bidirectional=True)
            session.carrier.write(stream, b"\x7f")
        assert gateway.quic is not None
        (server,) = gateway.quic._sessions
        await eventually(lambda: len(server._unread) >= 71)
        assert len(server._unread) <= 72
        assert session.closed_for is None
    await serves(gateway)


async def test_clients_prove_their_address_while_many_connect(gateway: Gateway) -> None:
    async with serving(quic=QuicSettings(retry_above=0)) as gateway:
        await serves(gateway)
        assert gateway.quic is not None
        assert gateway.quic._listener is not None
        gateway.quic.tick()
        held_up = partial(gateway.exposition().value, "headstart_quic_handshakes_total")
        assert held_up(outcome="asked_to_prove") == 1
        assert held_up(outcome="refused") == 0


async def test_there_are_so_many_connections_and_no_more() -> None:
    async with serving(quic=QuicSettings(max_connections=1)) as gateway:
        async with session_with(gateway) as session:
            with pytest.raises(ConnectionError):
                async with session_with(gateway, timeout_s=0.3):
                    pass
            await whole(await asking(session))
        assert gateway.quic is not None
        listener = gateway.quic._listener
        assert listener is not None
        await eventually(lambda: listener.num_connections == 0)
        await serves(gateway)
        gateway.quic.tick()
        exposition = gateway.exposition()
        assert exposition.value("headstart_quic_handshakes_total", outcome="refused") >= 1
        assert exposition.value("headstart_quic_packets_total", outcome="confirmed") > 5


class Watching(Session):
    """Remembers in which order a session's requests were begun."""

    order: ClassVar[list[str]] = []

    def established(self) -> None:
        self.order.append("established")
        super().established()

    def _start(self, stream_id: int, exchange: Exchange) -> None:
        self.order.append(exchange.request.method)
        super()._start(stream_id, exchange)


async def test_the_first_words_of_a_session_that_comes_back_need_no_round_trip(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    tickets: list[SessionTicket] = []
    async with session_with(gateway, on_ticket=tickets.append) as session:
        reading = await asking(session)
        log = await whole(reading)
        await eventually(lambda: bool(tickets))
    assert reading.stream_id is not None
    monkeypatch.setattr("headstart.pipeline.quic_endpoint.Session", Watching)
    async with session_with(gateway, ticket=tickets[0]) as session:
        asked, resumed = (
            asyncio.ensure_future(work)
            for work in (
                session.ask("POST", CHAT, body=msgspec.json.encode(saying(stream=True))),
                session.resume(reading.stream_id),
            )
        )
        assert await whole(await soon(resumed)) == log
        await whole(await soon(asked))

    # A request that makes something is never made by a replay.
    assert Watching.order == ["GET", "established", "POST"]


async def test_a_ticket_is_good_for_one_connection(gateway: Gateway) -> None:
    tickets: list[SessionTicket] = []
    async with session_with(gateway, on_ticket=tickets.append):
        await eventually(lambda: bool(tickets))
    async with session_with(gateway, ticket=tickets[0]) as session:
        await whole(await asking(session))
    # The second time is a whole handshake, in which nobody has looked at the certificate.
    async with session_with(gateway, ticket=tickets[0]) as session:
        with pytest.raises(ConnectionError):
            await asking(session)


async def test_a_ticket_shows_nothing_to_another_server(gateway: Gateway) -> None:
    tickets: list[SessionTicket] = []
    async with session_with(gateway, on_ticket=tickets.append):
        await eventually(lambda: bool(tickets))
    async with serving(speeds(), quic=QuicSettings()) as other:
        async with session_with(other, ticket=tickets[0]) as session:
            with pytest.raises(ConnectionError):
                await asking(session)
        assert not other.replica.requests


async def test_browsers_sessions_are_where_they_are(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = partial(WebTransportClient, path="/elsewhere")
    monkeypatch.setattr("headstart.client.quic_connect.WebTransportClient", elsewhere)
    with pytest.raises(ConnectionError, match="404"):
        async with session_with(gateway, is_webtransport=True):
            pass


async def test_pages_of_other_origins_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rule for WebSockets; the gateway's own pages may come from another port."""
    named = "https://chat.example.org"
    settings = GatewaySettings(cors_origins=(named,), shutdown_grace_s=0)
    async with serving(speeds(), quic=QuicSettings(), settings=settings) as gateway:
        for origin, may in ((named, True), (gateway.url, True), ("https://evil.example", False)):
            page = partial(WebTransportClient, origin=origin)
            monkeypatch.setattr("headstart.client.quic_connect.WebTransportClient", page)
            if may:
                async with session_with(gateway, is_webtransport=True) as session:
                    await whole(await asking(session))
                continue
            with pytest.raises(ConnectionError, match="403"):
                async with session_with(gateway, is_webtransport=True):
                    pass


async def test_datagrams_say_what_they_are(gateway: Gateway) -> None:
    async with session_with(gateway) as session:
        seen: list[bytes] = []
        take = session.datagram

        def overhear(data: bytes) -> None:
            seen.append(data)
            take(data)

        session.datagram = overhear  # type: ignore[method-assign]
        await whole(await asking(session))

        assert seen
        for data in seen:
            assert isinstance(decode_datagram(data), Snapshot)
            assert len(data) <= session.carrier.max_payload()
