"""Sessions that end or fall silent are replaced for the answers that are still being read."""

import asyncio
from typing import Any

import pytest

from headstart.client import records as records_module
from headstart.client.carriers import CarrierLost, Headers
from headstart.client.records import Records, Sessions
from tests.support.node_client import node
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio


class Silent:
    """A session whose server was restarted: nothing that is asked is answered."""

    def __init__(self) -> None:
        self.closed_for: str | None = None
        self.is_reading = False
        """Another answer, whatever becomes of this one."""

    async def resume(self, stream_id: str, headers: Headers, log: bytes) -> Any:
        await asyncio.Event().wait()

    def drop(self, reading: Any) -> None:
        raise AssertionError("nothing was read")

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


async def test_a_session_that_others_read_by_is_not_closed_for_one_that_gets_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The path may be dark, and they go on where that ends."""
    monkeypatch.setattr(records_module, "_ANSWER_S", 0.01)
    opened = Opened()
    sessions = Sessions(opened)
    await soon(sessions.current())
    opened.sessions[0].is_reading = True
    with pytest.raises(CarrierLost):
        await soon(anext(Records(sessions).read("a", 0, 0)))

    assert [session.closed_for for session in opened.sessions] == [None]


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
