"""The load client: what it sends, how it reads an answer's times, what it does not accept."""

import asyncio
import json
from collections.abc import Callable

import pytest

from headstart.benchmarks.load import (
    AnswerRefused,
    Exchange,
    chat_request,
    events,
    offer,
    timeline,
)

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"id": "x", "choices": [choice]}).encode()


ROLE = event({"role": "assistant", "content": ""})
WORD = event({"content": " word"})
LAST = event({"content": " end"}, "length")
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


def test_times_count_from_sending_to_the_first_token_not_the_opening() -> None:
    reads = [
        (10.5, HEAD + chunk(ROLE)),
        (11.0, chunk(WORD)),
        (11.2, chunk(WORD)),
        (11.5, chunk(LAST) + chunk(DONE) + END),
    ]
    found = timeline(Exchange(10.0, reads), num_tokens=3)
    assert found.first_s == pytest.approx(1.0)
    assert found.gaps_s == pytest.approx([0.2, 0.3])


def test_tokens_of_one_read_are_together_however_they_were_packed() -> None:
    reads = [
        (1.0, HEAD + chunk(ROLE + WORD) + chunk(WORD)),
        (2.0, chunk(WORD + LAST) + chunk(DONE) + END),
    ]
    # Four events for six tokens: two events held two tokens each.
    found = timeline(Exchange(0.0, reads), num_tokens=6)
    assert sorted(found.gaps_s) == pytest.approx([0, 0, 0, 0, 1.0])


def test_an_event_split_over_reads_arrives_with_its_last_byte() -> None:
    answer = HEAD + chunk(ROLE) + chunk(WORD) + chunk(LAST) + chunk(DONE) + END
    reads = [(float(index), answer[index : index + 1]) for index in range(len(answer))]
    found = timeline(Exchange(-1.0, reads), num_tokens=2)
    assert found.first_s == 1 + answer.index(WORD) + len(WORD) - 1
    assert found.gaps_s == pytest.approx([len(chunk(LAST)) + len(b"\r\n") * 0])


def answered(*events: bytes, status: bytes = b"200 OK") -> Exchange:
    head = HEAD.replace(b"200 OK", status)
    body = b"".join(map(chunk, events))
    return Exchange(0.0, [(1.0, head + body + END)])


@pytest.mark.parametrize(
    "exchange",
    [
        answered(ROLE, WORD, event({"content": ""}, "stop"), DONE),
        answered(ROLE, WORD, WORD, WORD, LAST, DONE),
        answered(ROLE, DONE),
        answered(b'{"error": "no"}', status=b"503 Busy"),
    ],
)
def test_less_or_more_work_than_asked_for_is_refused(exchange: Exchange) -> None:
    with pytest.raises(AnswerRefused):
        timeline(exchange, num_tokens=3)


def test_request_fixes_the_work() -> None:
    head, _, body = chat_request("smol", "Häh?", 16).partition(b"\r\n\r\n")
    asked = json.loads(body)
    assert f"Content-Length: {len(body)}".encode() in head
    assert asked["messages"] == [{"role": "user", "content": "Häh?"}]
    assert (asked["max_tokens"], asked["temperature"], asked["ignore_eos"]) == (16, 0, True)


class Server:
    """Answers each request after its neighbours have been read too."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.answer = answer
        self.num_open = 0
        self.most_open = 0
        self.closed: asyncio.Queue[None] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            assert head.startswith(b"POST")
            fields = await reader.readuntil(b"\r\n\r\n")
            length = int(fields.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = await reader.readexactly(length)
            self.num_open += 1
            self.most_open = max(self.most_open, self.num_open)
            for _ in range(5):
                await asyncio.sleep(0)
            self.num_open -= 1
            writer.write(self.answer(body))
            if not self.answer(body):
                break
        writer.close()
        await writer.wait_closed()
        self.closed.put_nowait(None)


async def asked(server: Server, num_requests: int, concurrency: int) -> list[Exchange]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    requests = [chat_request("smol", str(number), 2) for number in range(num_requests)]
    async with listener:
        try:
            return await offer(f"http://127.0.0.1:{port}", requests, concurrency)
        finally:
            for _ in range(min(num_requests, concurrency)):
                await server.closed.get()


def echo(body: bytes) -> bytes:
    word = json.loads(body)["messages"][0]["content"]
    events = (ROLE, event({"content": word}), LAST, DONE)
    return HEAD + b"".join(map(chunk, events)) + END


def test_requests_share_the_connections_and_answers_keep_their_order() -> None:
    server = Server(echo)
    exchanges = asyncio.run(asked(server, num_requests=10, concurrency=4))
    assert 1 < server.most_open <= 4
    for number, exchange in enumerate(exchanges):
        raw = b"".join(data for _, data in exchange.reads)
        assert f'"content": "{number}"'.encode() in raw
        assert exchange.sent_at <= exchange.reads[0][0] <= exchange.ended_at


def test_a_server_that_hangs_up_is_an_error() -> None:
    with pytest.raises(ConnectionError, match="hung up"):
        asyncio.run(asked(Server(lambda _: b""), num_requests=1, concurrency=1))


def test_a_refusal_ends_an_exchange_and_says_why() -> None:
    body = b'{"error": {"code": "model_not_found"}}'
    head = b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n" % len(body)
    (exchange,) = asyncio.run(asked(Server(lambda _: head + body), num_requests=1, concurrency=1))
    with pytest.raises(AnswerRefused, match=r"404.*model_not_found"):
        events(exchange)
