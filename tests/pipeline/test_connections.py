"""What a connection may cost: the size and time of its head, its idling, how many there are."""

import json
import resource
from collections.abc import AsyncIterator

import httpx
import pytest

from headstart.configs.serving import GatewaySettings
from headstart.monitoring.labels import Refusal
from headstart.pipeline.gateway import make_room
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds
from tests.support.raw_http import Connection, connected
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

IMPATIENT = GatewaySettings(header_timeout_s=0.1, keep_alive_s=0.1)
PATIENT = GatewaySettings(max_header_bytes=1024)
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
ENDLESS = 100_000


@pytest.fixture
async def impatient() -> AsyncIterator[Gateway]:
    """A gateway that waits a tenth of a second for anything."""
    async with serving(settings=IMPATIENT) as gateway:
        yield gateway


@pytest.fixture
async def patient() -> AsyncIterator[Gateway]:
    """A gateway that waits, for short heads."""
    async with serving(settings=PATIENT) as gateway:
        yield gateway


def refused(gateway: Gateway, reason: Refusal) -> float:
    return gateway.exposition().value("headstart_refusals_total", reason=reason)


async def error_on(connection: Connection, status: int) -> str:
    """Read an error that ends the connection, and return its words."""
    head, _, body = (await connection.rest()).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), head
    assert b"connection: close" in head
    assert b"content-type: application/json" in head
    assert f"content-length: {len(body)}".encode() in head
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == status
    return str(error["message"])


async def test_head_that_does_not_end_is_not_waited_for(impatient: Gateway) -> None:
    async with connected(impatient.address) as connection:
        connection.write(b"GET /healthz HTTP/1.1\r\nhost: te")

        assert "took longer than 0.1 s" in await error_on(connection, 408)
    assert refused(impatient, Refusal.TOO_SLOW) == 1


async def test_head_that_drips_is_not_waited_for(impatient: Gateway) -> None:
    async with connected(impatient.address) as connection:
        connection.write(b"GET /healthz HTTP/1.1\r\n")

        def drip() -> bool:
            connection.write(b"x: 1\r\n")
            return refused(impatient, Refusal.TOO_SLOW) == 1

        await eventually(drip)
        assert "took longer" in await error_on(connection, 408)


async def test_second_head_that_drips_is_not_waited_for(impatient: Gateway) -> None:
    """The time between two requests is another timer's, which any byte would stop."""
    async with connected(impatient.address) as connection:
        connection.write(HEALTH)
        await connection.until(b"ok\n")
        connection.write(b"GET /hea")

        assert "took longer" in await error_on(connection, 408)


@pytest.mark.parametrize("first", [b"", HEALTH])
async def test_idle_connection_is_closed_without_a_word(impatient: Gateway, first: bytes) -> None:
    async with connected(impatient.address) as connection:
        connection.write(first)
        if first:
            await connection.until(b"ok\n")

        assert await connection.rest() == b""
    assert refused(impatient, Refusal.TOO_SLOW) == 0


async def test_body_after_its_refusal_keeps_nobody_waiting(impatient: Gateway) -> None:
    async with connected(impatient.address) as connection:
        connection.head("POST", "/nowhere", content_length="1000000")
        assert (await connection.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        connection.write(b"x")

        # Nor is it refused a second time: that would look like the next request's answer.
        assert b"HTTP/1.1" not in await connection.rest()
    assert refused(impatient, Refusal.TOO_SLOW) == 0


@pytest.mark.parametrize("first", [b"", b"2\r\n{}\r\n"])
async def test_body_in_bad_pieces_is_refused_with_an_answer(gateway: Gateway, first: bytes) -> None:
    async with connected(gateway.address) as connection:
        connection.head("POST", CHAT, transfer_encoding="chunked")
        connection.write(first + b"ZZ\r\n")

        assert await error_on(connection, 400)
    assert gateway.replica.requests == []
    await gateway.unused()


async def test_answer_may_take_longer_than_a_head() -> None:
    async with serving(speeds(time_to_first_token_s=0.5), settings=IMPATIENT) as gateway:
        assert await gateway.stream()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-long: " + b"x" * 1024 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n" + b"x-many: 1\r\n" * 200 + b"\r\n",
        b"GET /" + b"x" * 1024 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-endless: " + b"x" * 1024,
        b"\r\n" * 1024,
    ],
    ids=["long", "many", "path", "endless", "empty lines"],
)
async def test_head_over_the_limit_is_refused(patient: Gateway, head: bytes) -> None:
    async with connected(patient.address) as connection:
        connection.write(head)

        assert "limit of 1024 bytes" in await error_on(connection, 431)
    assert refused(patient, Refusal.TOO_LARGE) == 1


async def test_trailers_have_the_limit_of_headers(patient: Gateway) -> None:
    async with connected(patient.address) as connection:
        connection.head("POST", CHAT, transfer_encoding="chunked")
        connection.write(b"2\r\n{}\r\n0\r\n")
        connection.write(b"x-trailer: 1\r\n" * 40_000)  # more than one read

        assert "limit of 1024 bytes" in await error_on(connection, 431)
    assert refused(patient, Refusal.TOO_LARGE) == 1
    assert patient.replica.requests == []


async def test_head_at_the_limit_is_served(patient: Gateway) -> None:
    async with connected(patient.address) as connection:
        connection.write(HEALTH[:-2] + b"x-long: " + b"x" * 900 + b"\r\n\r\n")

        assert (await connection.until(b"ok\n")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "request_", [b"Hello!\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET /\xff HTTP/1.1\r\n\r\n"]
)
async def test_what_is_not_http_gets_an_error_all_the_same(
    patient: Gateway, request_: bytes
) -> None:
    async with connected(patient.address) as connection:
        connection.write(request_)

        assert await error_on(connection, 400)
    assert refused(patient, Refusal.MALFORMED) == 1


async def test_connections_over_the_cap_are_refused_before_they_ask() -> None:
    async with serving(settings=GatewaySettings(max_connections=2)) as gateway:
        async with connected(gateway.address) as one, connected(gateway.address) as two:
            for connection in (one, two):
                connection.write(HEALTH)
                await connection.until(b"ok\n")
            assert gateway.exposition().value("headstart_connections") == 2

            async with connected(gateway.address) as three:
                assert "all 2 connections" in await error_on(three, 503)
            assert refused(gateway, Refusal.CONNECTIONS) == 1
            one.write(HEALTH)
            await one.until(b"ok\n")
        await eventually(lambda: gateway.exposition().value("headstart_connections") == 0)
        assert (await soon(gateway.client.get("/healthz"))).is_success


async def test_refused_connection_says_when_to_come_back() -> None:
    async with (
        serving(settings=GatewaySettings(max_connections=1)) as gateway,
        connected(gateway.address) as one,
    ):
        one.write(HEALTH)
        await one.until(b"ok\n")

        answer = await soon(gateway.client.post(CHAT, json=saying("x" * 100_000)))

        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert answer.headers["retry-after"] == "1"


async def test_requests_in_a_row_are_answered_in_order(patient: Gateway) -> None:
    async with connected(patient.address) as connection:
        connection.write(HEALTH * 10)

        for _ in range(10):
            await connection.until(b"ok\n")


async def test_request_behind_another_does_not_hide_that_the_client_has_gone() -> None:
    async with serving(speeds(tokens_per_s=50.0)) as gateway:
        async with connected(gateway.address) as connection:
            connection.post(CHAT, saying(stream=True, max_tokens=ENDLESS))
            await connection.until(b'"content":" ')
            connection.write(HEALTH)
            await connection.until(b'"content":" ')

        await gateway.replica.idle(0.5)


async def test_requests_without_end_behind_a_slow_one_end_it() -> None:
    async with serving(speeds(tokens_per_s=50.0)) as gateway:
        async with connected(gateway.address) as connection:
            connection.post(CHAT, saying(stream=True, max_tokens=ENDLESS))
            await connection.until(b'"content":" ')
            connection.write(HEALTH * 1000)

            assert b"ok\n" not in await connection.rest()
        await gateway.unused()
        assert refused(gateway, Refusal.MALFORMED) == 1


def test_process_may_hold_a_file_for_each_connection() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        make_room(GatewaySettings(max_connections=100).num_files)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (612, before[1])
        make_room(50)  # never less than before
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (612, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
