"""Sessions that end or fall silent are replaced for the answers that are still being read."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from headstart.client import records as records_module
from headstart.client.carriers import CarrierLost, Headers
from headstart.client.records import Records, Sessions
from tests.support.node_client import node
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio


class Begun:
    """An answer that began before the silence."""

    error = None
    log = b""
    is_whole = False

    async def records(self) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""


class Silent:
    """A session whose server was restarted: nothing that is asked is answered.

    All but an answer named `begun`.
    """

    def __init__(self) -> None:
        self.closed_for: str | None = None
        self.is_heard = True
        self._heard = asyncio.Event()
        self.num_listening = 0
        self._readings: set[Begun] = set()

    @property
    def is_reading(self) -> bool:
        return bool(self._readings)

    def says(self) -> None:
        """Something comes by it."""
        self.is_heard = True
        self._heard.set()

    async def heard(self) -> None:
        self._heard.clear()
        self.num_listening += 1
        await self._heard.wait()

    async def resume(self, stream_id: str, headers: Headers, log: bytes) -> Any:
        if stream_id != "begun":
            await asyncio.Event().wait()
        reading = Begun()
        self._readings.add(reading)
        return reading

    def drop(self, reading: Begun) -> None:
        self._readings.remove(reading)

    async def stop(self, stream_id: str, headers: Headers) -> None:
        await asyncio.Event().wait()

    def close(self) -> None:
        self.closed_for = "closed"


class Opened:
    """Opens sessions and keeps them."""

    def __init__(self) -> None:
        self.sessions: list[Silent] = []

    async def __call__(self) -> Silent:
        self.sessions.append(Silent())
        return self.sessions[-1]


async def test_a_session_that_does_not_answer_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_module, "_ANSWER_S", 0.01)
    opened = Opened()
    records = Records(Sessions(opened))
    with pytest.raises(CarrierLost):
        await soon(anext(records.read("a", 0, 0)))

    assert [session.closed_for for session in opened.sessions] == ["closed"]
    await soon(records.usable())
    assert [session.closed_for for session in opened.sessions] == ["closed", None]


async def test_a_session_that_has_ended_is_of_no_use_until_another_is_open() -> None:
    opened = Opened()
    sessions = Sessions(opened)
    await soon(Records(sessions).usable())
    opened.sessions[0].close()
    sessions._not_before = float("inf")
    assert await soon(sessions.current()) is None
    with pytest.raises(CarrierLost):
        await soon(anext(Records(sessions).read("a", 0, 0)))


async def test_beside_a_session_that_others_read_by_and_that_does_not_answer_another_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The path may be dark, and they go on where that ends; its server may be gone."""
    monkeypatch.setattr(records_module, "_ANSWER_S", 0.01)
    opened = Opened()
    sessions = Sessions(opened)
    async with aclosing(Records(sessions).read("begun", 0, 0)) as others:
        await soon(anext(others))
        with pytest.raises(CarrierLost):
            await soon(anext(Records(sessions).read("a", 0, 0)))
        await soon(Records(sessions).usable())

        assert [session.closed_for for session in opened.sessions] == [None, None]
        assert await soon(sessions.current()) is opened.sessions[1]
    # With its last reader it ends.
    assert [session.closed_for for session in opened.sessions] == ["closed", None]


async def test_a_session_in_doubt_is_of_use_again_when_something_comes_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records_module, "_ANSWER_S", 0.01)
    dark, asked = Silent(), asyncio.Event()

    async def connect() -> Silent:
        if not dark.is_heard:
            asked.set()
            raise ConnectionError("the path is dark")
        return dark

    sessions = Sessions(connect)
    async with aclosing(Records(sessions).read("begun", 0, 0)) as others:
        await soon(anext(others))
        with pytest.raises(CarrierLost):
            await soon(anext(Records(sessions).read("a", 0, 0)))
        waiting = asyncio.ensure_future(Records(sessions).usable())
        await soon(asked.wait())
        await eventually(lambda: dark.num_listening > 0)
        assert not waiting.done()

        dark.says()
        await soon(waiting)
        assert await soon(sessions.current()) is dark


async def test_an_answer_climbs_to_no_session_of_which_nothing_was_heard() -> None:
    """One that is opened with a ticket is there before its server has said a word."""
    opened = Opened()
    sessions = Sessions(opened)
    await soon(sessions.current())
    (session,) = opened.sessions
    session.is_heard = False
    waiting = asyncio.ensure_future(Records(sessions).usable())
    await eventually(lambda: session.num_listening > 0)
    assert sessions.open is session  # good enough for what is asked for now

    session.says()
    await soon(waiting)


async def test_a_session_that_cannot_be_had_is_tried_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(records_module, "_RETRY_S", 0.01)
    num_tries = 0

    async def connect() -> Silent:
        nonlocal num_tries
        num_tries += 1
        if num_tries < 3:
            raise ConnectionRefusedError
        return Silent()

    await soon(Records(Sessions(connect)).usable())

    assert num_tries == 3


def test_in_the_browser_too() -> None:
    """A server that greets and then says nothing more, and a clock that does not wait."""
    assert node("tests/web/silent_session.mjs") == "lost 1 closed, 2 opened\n"


def test_beside_one_in_doubt_another_is_opened_in_the_browser_too() -> None:
    """Others read by the first, by which something comes, or by another that is opened."""
    assert json.loads(node("tests/web/doubted_session.mjs")) == {
        "outcomes": ["lost", "lost"],
        "isUsableInTheDark": False,
        "isUsableWhenHeard": True,
        "isUsableAsAnother": True,
        "closedWhileRead": [],
        "closedAtTheEnd": [1],
    }


def test_a_page_stops_waiting_for_what_its_gateway_does_not_offer_or_with_its_answer() -> None:
    """Prints how many wait to ask again."""
    assert json.loads(node("tests/web/watching.mjs")) == {
        "none offered": 0,
        "none now": 1,
        "left": 0,
    }
