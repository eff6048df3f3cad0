"""Answers through everything that can happen to them: does the reader get each byte once?

The Python client reads by datagrams through a relay on loopback, at 3 to 4 s an answer.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
import msgspec
from openai.types.chat import ChatCompletionChunk

from headstart.benchmarks.socket_faults import Case, Fault, Path, Result
from headstart.benchmarks.udp_relay import UdpRelay, udp_relay
from headstart.client import AsyncClient
from headstart.client.events import EventSplitter
from headstart.client.quic_connect import Trust
from headstart.client.quic_session import QuicSession, connect
from headstart.client.records import RecordProjector
from headstart.stages.carrier_ladder import LadderLimits, Rung
from headstart.stages.errors import Cancelled, HeadstartError
from headstart.stages.sse import DONE

__all__ = ["read_through", "reference"]

DARK_S = 5.0
CONNECT_TRIES = 4
PATIENCE_S = 60.0
LOOK_S = 0.1
ALWAYS_DATAGRAMS = LadderLimits(race_s=1e6)
"""On loopback an event stream wins every race; here it is for when datagrams fail."""


async def reference(url: str, model: str, case: Case) -> str:
    """The text of a case's answer when nothing happens to it: an event stream on loopback."""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False) as http:
        body = case.body | {"model": model, "stream": True}
        answer = await http.post("/v1/chat/completions", json=body)
        return _text(_chunks(answer.content))


async def read_through(
    case: Case,
    url: str,
    model: str,
    expected: str,
    amid: Callable[[], Awaitable[object]] | None = None,
) -> Result:
    """Read one answer, have its fault happen, and compare what came with what was to come.

    Args:
        amid: Makes a fault happen that is not the answer's own; called twice.
    """
    path, began = Path(case), time.monotonic()
    ordeal = _Ordeal(case, url, model, expected, path, amid)
    problem: str | None
    try:
        async with asyncio.timeout(PATIENCE_S):
            problem = await ordeal.read()
    except TimeoutError:
        problem = "nothing more came"
    except (HeadstartError, httpx.HTTPError, OSError) as error:
        problem = f"{type(error).__name__}: {error}"
    finally:
        if amid is not None:
            await amid()  # nobody shall wait for one that has failed
    seconds = time.monotonic() - began
    return Result(case, problem, seconds, ordeal.is_struck, ordeal.last_rungs, path.num_lost)


class _Ordeal:
    """One answer and what happens to it."""

    def __init__(
        self,
        case: Case,
        url: str,
        model: str,
        expected: str,
        path: Path,
        amid: Callable[[], Awaitable[object]] | None,
    ) -> None:
        self.is_struck = False
        self.last_rungs: frozenset[Rung] = frozenset()
        self._case, self._url, self._model, self._expected = case, url, model, expected
        self._path, self._amid = path, amid
        self._ready: QuicSession | None = None
        """Open before the answer is asked for, so that datagrams carry it from early on."""
        self._found: list[ChatCompletionChunk] = []
        self._is_stopped = False

    async def read(self) -> str | None:
        async with AsyncExitStack() as stack:
            self._http = await stack.enter_async_context(
                httpx.AsyncClient(base_url=self._url, timeout=PATIENCE_S, trust_env=False)
            )
            self._port = (await self._get("/v1/transport")).json()["port"]
            self._relay = await stack.enter_async_context(
                udp_relay(self._port, self._path.arrivals)
            )
            self._ready = await self._connected(self._relay)
            stack.callback(self._ready.close)
            client = await stack.enter_async_context(
                AsyncClient(self._url, datagrams=self._session, limits=ALWAYS_DATAGRAMS)
            )
            answer = await client.chat.completions.create(
                model=self._model, stream=True, extra_body=self._case.body
            )
            other: asyncio.Future[bytes] | None = None
            if self._case.fault is Fault.TWO:
                other = asyncio.ensure_future(self._second_reader(answer.id))
            happening: asyncio.Future[None] | None = None
            try:
                async for chunk in answer:
                    self._found.append(chunk)
                    self.last_rungs = answer.rungs
                    is_due = len(self._found) >= self._case.after and not self.is_struck
                    if is_due and self.last_rungs == {Rung.DATAGRAMS}:
                        self.is_struck = True
                        if self._case.fault is Fault.STOP_HERE:
                            self._is_stopped = True
                            await answer.cancel()
                        else:
                            happening = asyncio.ensure_future(self._happen(answer.id))
            except Cancelled:
                if self._case.fault is not Fault.STOP_THERE:
                    raise
                self._is_stopped = True
            finally:
                await asyncio.gather(*filter(None, (happening,)))
            second = None if other is None else await other
            stored = await self._get(f"/v1/streams/{answer.id}")
            return self._compare(stored.content, second)

    async def _get(self, path: str) -> httpx.Response:
        """From a gateway that another answer's fault may kill at this moment."""
        while True:
            with suppress(httpx.TransportError):
                response = await self._http.get(path)
                if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return response
            await asyncio.sleep(LOOK_S)

    async def _happen(self, answer_id: str) -> None:
        fault = self._case.fault
        if fault in (Fault.DARK, Fault.BLOCKED):
            self._path.is_dark = True
        if fault is Fault.DARK:
            await asyncio.sleep(DARK_S)
            self._path.is_dark = False
        elif fault is Fault.REBIND:
            await self._relay.rebind()
        elif fault is Fault.STOP_THERE:
            await self._http.delete(f"/v1/streams/{answer_id}")
        elif self._amid is not None:
            await self._amid()

    async def _session(self) -> QuicSession:
        """For the client: the first is open already."""
        ready, self._ready = self._ready, None
        return await self._connect() if ready is None else ready

    async def _connect(self, relay: UdpRelay | None = None) -> QuicSession:
        """A session through the relay, with the certificate that the gateway has by now."""
        try:
            offer = (await self._http.get("/v1/transport")).json()
        except httpx.HTTPError as error:
            raise ConnectionError(str(error)) from error
        hashes = [one["value"] for one in offer["certificate_hashes"]]
        trust = Trust(frozenset(msgspec.convert(hashes, list[bytes])))
        return await connect("127.0.0.1", (relay or self._relay).port, trust)

    async def _connected(self, relay: UdpRelay) -> QuicSession:
        """As often as it takes, where the path loses handshakes."""
        for _ in range(CONNECT_TRIES - 1):
            with suppress(ConnectionError):
                return await self._connect(relay)
        return await self._connect(relay)

    async def _second_reader(self, answer_id: str) -> bytes:
        """The answer's events, as somebody reads them who comes by another path."""
        path = Path(Case.drawn(self._case.seed + 1, Fault.NONE))
        async with udp_relay(self._port, path.arrivals) as relay:
            session = await self._connected(relay)
            try:
                reading = await session.resume(answer_id)
                await reading.finished()
                events = RecordProjector().feed(reading.log)
                return b"".join(b"data: " + event.payload + b"\n\n" for event in events)
            finally:
                session.close()

    def _compare(self, stored: bytes, second: bytes | None) -> str | None:
        kept = [ChatCompletionChunk.construct(**fields) for fields in _chunks(stored)]
        text = _text(_chunks(stored))
        if self._is_stopped:
            if self._found != kept[: len(self._found)] or not self._expected.startswith(text):
                return "what came before the stop is not how the answer begins"
            return None
        if self._case.fault in (Fault.STOP_HERE, Fault.STOP_THERE):
            return None if text == self._expected else "stopped too late, and the text differs"
        if text != self._expected:
            return f"the gateway has {len(text)} characters instead of {len(self._expected)}"
        if self._found != kept:
            return f"{len(self._found)} chunks came where {len(kept)} were written"
        if second is not None and _payloads(second) != _payloads(stored):
            return "the second reader has other bytes"
        return None


def _payloads(body: bytes) -> list[bytes]:
    return [event.payload for event in EventSplitter().feed(body)]


def _chunks(body: bytes) -> list[dict[str, Any]]:
    """The chunks of a body; an error that ends it is none."""
    found = [msgspec.json.decode(payload) for payload in _payloads(body) if payload != DONE]
    return [fields for fields in found if "choices" in fields]


def _text(chunks: Sequence[dict[str, Any]]) -> str:
    found = msgspec.convert(chunks, list[_Chunk])
    return "".join(choice.delta.content or "" for chunk in found for choice in chunk.choices)


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Chunk(msgspec.Struct):
    choices: list[_Choice]
