"""Answers of real sockets are scored as the simulator's are, and bars can fail."""

import asyncio
import math

import pytest

from headstart.benchmarks.checks import Verdict
from headstart.benchmarks.link_flows import UDP, Passed
from headstart.benchmarks.socket_cells import SocketSample, settings
from headstart.benchmarks.socket_client import Crowded
from headstart.benchmarks.socket_faults import Case, Fault, Restart, Result
from headstart.benchmarks.socket_orders import Made
from headstart.benchmarks.socket_readers import Arm, Shown
from headstart.benchmarks.socket_report import LATE_S, Found, checks, faults_table, struck_check
from headstart.benchmarks.socket_scores import Answer, Block, scored
from headstart.benchmarks.socket_soak import FULL_S, WINDOW, Soak
from headstart.benchmarks.socket_soak import checks as soak_checks
from headstart.benchmarks.transport_cells import Outcome
from headstart.benchmarks.transport_grid import Group
from headstart.stages.carrier_ladder import Rung

SAMPLE = SocketSample.full()
EPOCH = 500.0
CLEAN = next(each for each in settings(SAMPLE) if each.group is Group.CLEAN)
LOSSY = next(each for each in settings(SAMPLE) if each.group is Group.LOSSY)


def score(made: list[float], shown: Shown) -> Answer:
    at = [EPOCH + each for each in made]
    return scored(CLEAN, 1, shown, Made(at), Passed(UDP, 1, 4, 400, 0, 4, 200), EPOCH, SAMPLE)


def test_tokens_are_shown_when_that_many_have_come() -> None:
    made = [0.05, 0.07, 0.09, 0.11]
    shown = Shown("a", [1, 3, 4], [EPOCH + each for each in (0.1, 0.34, 0.36)], True)

    answer = score(made, shown)

    outcome = answer.outcome
    assert outcome.is_complete
    assert outcome.delays_s == pytest.approx([0.0, 0.2, 0.2, 0.22])
    # Due 100 ms beyond the link's 50: the second at 0.22, and all are here by 0.36.
    assert outcome.stall == pytest.approx((0.36 - 0.22) / (0.36 - 0.05))
    assert outcome.excess == outcome.stall
    assert outcome.bytes_per_step == 100
    assert answer.gaps_s == pytest.approx([0.24, 0.02])


def test_what_never_came_counts_as_late_as_the_readers_patience() -> None:
    given_up = SAMPLE.answer_s + SAMPLE.patience_s
    some = score([0.05, 0.07], Shown("a", [1], [EPOCH + 0.1]))
    none = score([], Shown())

    assert some.outcome.delays_s[-1] == pytest.approx(given_up - 0.07 - 0.05)
    assert none.num_tokens == SAMPLE.num_tokens
    assert none.outcome.stall > 0.9
    assert not none.outcome.is_complete


def found(mine: float, tcp: float, late_s: float = 0.0) -> Found:
    def block(excess: float) -> Block:
        outcome = Outcome(excess, excess, excess, 100.0, 10, 0, 10.0, (excess,), True)
        return Block([Answer(outcome, (0.02,), 10, 10)] * 10, late_s, 0, 0.0, 0.0)

    return Found(LOSSY, {arm: [block(mine if arm is Arm.OURS else tcp)] for arm in Arm})


@pytest.mark.parametrize(
    ("mine", "late_s", "verdict"),
    [
        (0.01, 0.0, Verdict.HOLDS),
        (0.05, 0.0, Verdict.FAILS),
        (0.01, 2 * LATE_S, Verdict.UNDECIDED),
        (0.05, 2 * LATE_S, Verdict.UNDECIDED),
    ],
)
def test_a_busy_machine_decides_nothing(mine: float, late_s: float, verdict: Verdict) -> None:
    clean = Found(CLEAN, found(0.0, 0.0).blocks)
    judged = checks([found(mine, 0.1, late_s), clean], list(Arm), is_quick=False)

    verdicts = {check.bar.name: check.verdict for check in judged}
    assert verdicts["sockets_excess_stall_vs_tcp_cubic"] is verdict
    assert verdicts["sockets_excess_stall_vs_tcp_bbr"] is verdict
    assert verdicts["sockets_stall_without_loss_vs_tcp_cubic"] is Verdict.HOLDS


@pytest.mark.parametrize(
    ("mine_s", "late_s", "verdict"),
    [
        (0.0005, 0.0, Verdict.HOLDS),
        (0.0015, 0.0, Verdict.FAILS),
        (0.0015, 2 * LATE_S, Verdict.UNDECIDED),
    ],
)
def test_without_loss_delays_are_judged_as_well_as_stalls(
    mine_s: float, late_s: float, verdict: Verdict
) -> None:
    clean = Found(CLEAN, found(mine_s, 0.001, late_s).blocks)
    judged = {
        check.bar.name: check
        for check in checks([found(0.0, 0.1), clean], list(Arm), is_quick=False)
    }

    stall = judged["sockets_stall_without_loss_vs_tcp_cubic"]
    # Nobody stalls: what was judged is a share of time, not a ratio of nothing to nothing.
    assert (stall.bar.unit, stall.bar.limit) == ("share of time", 0.002)
    assert "1 of them judged by share of time" in stall.note
    delay = judged["sockets_p95_delay_without_loss_vs_tcp_cubic"]
    assert (delay.verdict, delay.bar.unit) == (verdict, "ratio")


def test_a_rival_that_cannot_run_is_named() -> None:
    arms = [arm for arm in Arm if arm is not Arm.BBR]
    clean = Found(CLEAN, found(0.0, 0.0).blocks)
    judged = {
        check.bar.name: check for check in checks([found(0, 0.1), clean], arms, is_quick=False)
    }

    check = judged["sockets_excess_stall_vs_tcp_bbr"]
    assert check.verdict is Verdict.NOT_MEASURED
    assert "bbr" in check.note


@pytest.mark.parametrize(
    ("mib_per_min", "seconds", "verdict"),
    [
        (0.0, FULL_S, Verdict.HOLDS),
        (2.0, FULL_S, Verdict.FAILS),
        (2.0, FULL_S / 10, Verdict.NOT_MEASURED),
    ],
)
def test_memory_that_grows_is_seen(mib_per_min: float, seconds: float, verdict: Verdict) -> None:
    samples = [
        (float(at), int(2**20 * (80 + mib_per_min * at / 60 + math.sin(at))))
        for at in range(int(seconds))
    ]
    found = Soak(seconds, Crowded(100, 0), samples, 0.3)

    memory, wrong = soak_checks(found)

    assert memory.verdict is verdict
    assert wrong.verdict is Verdict.HOLDS
    assert len(found.windows) <= seconds / WINDOW


def test_a_fault_that_no_datagram_met_fails_its_bar() -> None:
    datagrams, sse = frozenset({Rung.DATAGRAMS}), frozenset({Rung.SSE})
    case = Case.drawn(7, Fault.BLOCKED)
    struck = Result(case, None, 1.0, True, sse, 0)
    missed = Result(case, None, 1.0, False, datagrams, 0)

    assert struck_check([struck]).verdict is Verdict.HOLDS
    check = struck_check([struck, missed])
    assert check.verdict is Verdict.FAILS
    assert "7, UDP blocked for good" in check.note
    table = faults_table([struck, missed])
    (row,) = (dict(zip(table.columns, each, strict=True)) for each in table.rows)
    assert (row["by datagrams then"], row["by datagrams at its end"]) == (1, 1)


def test_a_restart_waits_for_all_and_for_nobody_twice() -> None:
    times: list[int] = []

    async def restart() -> None:
        times.append(1)

    async def group() -> None:
        one = Restart(2, restart)
        await one.amid(0)
        await one.amid(0)
        assert not times
        await one.amid(1)
        await one.amid(1)

    asyncio.run(group())
    assert times == [1]
