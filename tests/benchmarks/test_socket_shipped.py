"""Whole clients on real sockets: what is asked of them, and that their bars can fail."""

import asyncio
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from headstart.benchmarks.checks import Verdict
from headstart.benchmarks.child import command
from headstart.benchmarks.link_flows import TCP, UDP, Passed
from headstart.benchmarks.lossy_link import Begin, Crossed, Standing
from headstart.benchmarks.shipped_clients import AskAgain, Client, Turn, ask_again
from headstart.benchmarks.socket_cells import SocketSample, shipped_settings
from headstart.benchmarks.socket_orders import Door, Enter, Made
from headstart.benchmarks.socket_readers import Shown
from headstart.benchmarks.socket_report import LATE_S
from headstart.benchmarks.socket_rig import Rig
from headstart.benchmarks.socket_shipped import (
    NUM_LANES,
    TURNS,
    Shipped,
    checks,
    run,
    scored,
    table,
)
from headstart.benchmarks.transport_grid import Group
from headstart.configs.serving import QuicSettings
from tests.support.gateway import serving, speeds
from tests.support.waiting import soon

SAMPLE = SocketSample.full()
CELLS = shipped_settings(SAMPLE)
CLEAN = next(each for each in CELLS if each.group is Group.CLEAN)
LOSSY = next(each for each in CELLS if each.group is Group.LOSSY)


@pytest.mark.parametrize("client", Client)
def test_a_client_asks_and_asks_again(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")

    async def run() -> None:
        async with serving(
            speeds(tokens_per_s=200.0, answer_tokens=100), quic=QuicSettings()
        ) as gateway:
            order = AskAgain(client, gateway.url, "fake", 100, 2, 0.02, 0.01, 20.0)
            turns = await soon(ask_again(order))
            assert [len(both) for both in turns] == [2, 2]
            for turn in (turn for both in turns for turn in both):
                frames = gateway.streams.get(turn.shown.id).log.frames(0)
                assert turn.text == "".join(frame.text for _, frame in frames)
                assert turn.shown.is_whole, turn.shown.why
                assert turn.shown.tokens[-1] == 100
            # The second question finds a session open.
            assert all(both[1].by_datagrams > 0 for both in turns) == (client is Client.OURS)

    asyncio.run(run())


def test_the_readers_process_has_clients_ask_again() -> None:
    async def run() -> list[list[Turn]]:
        async with serving(speeds(), quic=QuicSettings()) as gateway:
            order = AskAgain(Client.OURS, gateway.url, "fake", 8, 2, 0.0, 0.0, 20.0)
            argv = command("headstart.benchmarks.socket_client", "serve")
            readers = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE)
            assert readers.stdin is not None
            assert readers.stdout is not None
            for each in (Enter(), order, order):
                readers.stdin.write(msgspec.json.encode(each) + b"\n")
            heard = [await asyncio.wait_for(readers.stdout.readline(), 60) for _ in range(2)]
            readers.stdin.close()
            assert await readers.wait() == 0
            return [
                both for line in heard for both in msgspec.json.decode(line, type=list[list[Turn]])
            ]

    turns = asyncio.run(run())

    assert [[turn.shown.is_whole for turn in both] for both in turns] == [[True, True]] * 4


class FakeRig(Rig):
    """Everything answers at once, and clients get it all; a first block comes while others work."""

    def __init__(self) -> None:
        self.standing = Standing("tun")
        self.doors = [Door("127.0.0.1", 1, [])]
        self.gateways = self  # type: ignore[assignment]
        self.begun: list[str] = []
        self._late_s = iter([0.0, 0.0, 2 * LATE_S])
        self._asked: AskAgain | None = None

    def order(self, order: object, reply: Any) -> Any:
        if isinstance(order, Begin):
            assert order.others is not None
            self.begun.append(order.others.cell)
            return True
        return Crossed([Passed(TCP, 1, 9, 900, 0, 9, 90)], next(self._late_s, 0.0), 0)

    def others_cores(self) -> Callable[[], float]:
        return lambda: 0.5

    def tell_readers(self, order: object) -> None:
        assert isinstance(order, AskAgain)
        self._asked = order

    def hear_readers(self, reply: Any) -> Any:
        assert self._asked is not None
        at = time.monotonic()
        shown = Shown("a", [1, 2], [at + 0.1, at + 0.2], True)
        return [[Turn(at, shown, "ab")] * len(TURNS)] * self._asked.count

    def made(self, ids: Sequence[str]) -> list[Made]:
        at = time.monotonic()
        return [Made([at, at + 0.1], ["a", "b"]) for _ in ids]


def test_blocks_alternate_and_a_disturbed_one_is_run_again() -> None:
    rig = FakeRig()
    sample = SocketSample.quick()

    found = run(rig, sample)

    clean, lossy = (each.name for each in shipped_settings(sample))
    assert rig.begun == [clean] * 5 + [lossy] * 2
    assert {
        len(some) for cell in found for asked in cell.asked.values() for some in asked.values()
    } == {NUM_LANES}
    assert not any(cell.is_disturbed for cell in found)
    assert len(table(found).rows) == 8
    assert checks(found, is_quick=True)[-1].verdict is Verdict.HOLDS
    rig.standing = Standing("relay")
    assert run(rig, sample) == []


def test_what_becomes_of_a_client_that_fails_is_told() -> None:
    order = AskAgain(Client.OURS, "http://127.0.0.1:9", "tiny", 5, 1, 0.0, 0.0, 5.0)

    ((turn, _),) = asyncio.run(ask_again(order))

    assert not turn.shown.is_whole
    assert "EngineUnavailable" in turn.shown.why


def test_an_answer_is_scored_from_its_question_on() -> None:
    at = [501.05, 501.07]
    shown = Shown("a", [1, 2], [501.1, 501.42], True)
    made = Made(at, ["Hello", " there"])

    asked = scored(CLEAN, Turn(501.0, shown, "Hello there", 1), made, SAMPLE)

    assert asked.first_text_s == pytest.approx(0.1)
    assert asked.outcome.stall == pytest.approx((0.42 - 0.22) / (0.42 - 0.05))
    assert (asked.by_datagrams, asked.is_exact) == (0.5, True)
    assert not scored(CLEAN, Turn(501.0, shown, "Hello", 1), made, SAMPLE).is_exact
    assert not scored(CLEAN, Turn(501.0), Made([]), SAMPLE).is_exact


def shipped(mine_s: float, theirs_s: float, late_s: float = 0.0, text: str = "ab") -> list[Shipped]:
    """A second token that is so much too late, of ours and of theirs."""
    found = [Shipped(CLEAN), Shipped(LOSSY)]
    made = Made([500.1, 504.0], ["a", "b"])
    for cell in found:
        for client, stalled_s in ((Client.OURS, mine_s), (Client.OPENAI, theirs_s)):
            cell.late_s[client].append(late_s)
            cell.passed[client] += [Passed(TCP, 1, 9, 900, 0, 9, 90), Passed(UDP, 1, 3, 300)]
            shown_at = 504.0 + cell.setting.cell.rtt_s / 2 + 0.1
            stalled = 0.0 if cell.setting is CLEAN else stalled_s
            shown = Shown("a", [1, 2], [500.2, shown_at + stalled], True)
            asked = scored(cell.setting, Turn(500.0, shown, text), made, SAMPLE)
            for turn in TURNS:
                cell.asked[turn][client] += [asked] * 10
    return found


@pytest.mark.parametrize(
    ("mine_s", "late_s", "verdict"),
    [
        (0.1, 0.0, Verdict.HOLDS),
        (1.0, 0.0, Verdict.FAILS),
        (0.1, 2 * LATE_S, Verdict.UNDECIDED),
    ],
)
def test_stalls_of_clients_are_judged(mine_s: float, late_s: float, verdict: Verdict) -> None:
    judged = {each.bar.name: each for each in checks(shipped(mine_s, 2.0, late_s), is_quick=False)}

    assert judged["sockets_shipped_stall_vs_openai_client"].verdict is verdict
    assert judged["sockets_shipped_wrong_answers"].verdict is Verdict.HOLDS


def test_another_text_fails_its_bar_and_stands_in_the_table() -> None:
    found = shipped(0.0, 2.0, text="ac")

    wrong = checks(found, is_quick=False)[-1]

    assert (wrong.verdict, wrong.note) == (Verdict.FAILS, "of 40")
    whole = table(found)
    rows = [dict(zip(whole.columns, row, strict=True)) for row in whole.rows]
    assert len(rows) == 2 * len(TURNS) * len(Client)
    assert {row["not exact"] for row in rows} == {10}
    assert rows[0]["bytes/token"] == 1200 / 40
    assert rows[0]["of them by TCP"] == 0.75


def test_where_tcp_loses_nothing_no_client_is_judged() -> None:
    assert {each.verdict for each in checks([], is_quick=False)} == {Verdict.NOT_MEASURED}
