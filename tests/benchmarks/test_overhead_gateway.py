"""The gateway's bars, both ways, and the lateness of paced streams."""

import msgspec
import numpy as np
import pytest

from headstart.benchmarks import overhead_gateway
from headstart.benchmarks.checks import Verdict
from headstart.benchmarks.fake_gateway import STEP_S, Burst, Held, late_s
from headstart.benchmarks.load import Exchange
from headstart.benchmarks.overhead_gateway import Found

HELD = Held(500, 100 << 20, (100 << 20) + 500 * 30 * 1024, 200 << 20, (200 << 20) + 500 * 1024)


def found(cpu_s: float = 0.5, late: float = 0.004, two_s: float = 8.2) -> Found:
    burst = Burst(10_000, 1.0, cpu_s)
    scaling = (Burst(20_000, 16.0, 1.0), Burst(20_000, two_s, 1.0))
    bursts = {size: [burst] * 8 for size in (1, 500)}
    return Found(HELD, bursts, [np.full(1000, late)] * 8, [scaling] * 8)


def verdicts(measured: Found, *, is_quick: bool = False) -> dict[str, Verdict]:
    made = overhead_gateway.checks(measured, is_quick=is_quick)
    return {check.bar.name: check.verdict for check in made}


def test_a_good_gateway_holds_every_bar() -> None:
    assert set(verdicts(found()).values()) == {Verdict.HOLDS}


@pytest.mark.parametrize(
    ("measured", "fallen"),
    [
        (
            found(cpu_s=1.5),
            {"gateway_speed_per_core_1_streams", "gateway_speed_per_core_500_streams"},
        ),
        (found(late=0.03), {"gateway_added_inter_token_p99_500_streams"}),
        (found(two_s=10.0), {"two_replicas_speed"}),
    ],
)
def test_a_worse_one_fails_its_bar_and_no_other(measured: Found, fallen: set[str]) -> None:
    found = verdicts(measured)
    assert {name for name, verdict in found.items() if verdict is Verdict.FAILS} == fallen


def test_what_takes_minutes_may_be_left_out() -> None:
    measured = found()
    measured.scaling.clear()
    assert verdicts(measured, is_quick=True)["two_replicas_speed"] is Verdict.NOT_MEASURED


def test_memory_is_told_per_stream() -> None:
    gateway, replica = overhead_gateway.memory_table(found()).rows
    assert gateway[0] == "gateway"
    assert gateway[-1] == pytest.approx(30)
    assert replica[-1] == pytest.approx(1)


def exchange(sent_at: float, *token_at: float) -> Exchange:
    """An answer whose tokens come at these moments."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    reads = [(sent_at, head)]
    for at in token_at:
        reason = "length" if at == token_at[-1] else None
        choice = {"delta": {"content": "x"}, "finish_reason": reason}
        event = b"data: " + msgspec.json.encode({"choices": [choice]}) + b"\n\n"
        reads.append((at, b"%x\r\n%s\r\n" % (len(event), event)))
    return Exchange(sent_at, reads)


def test_lateness_is_beyond_the_step_and_counts_once_all_run() -> None:
    early = exchange(0.0, 0.1, 0.9, 1.0, 1.1, 1.23)
    last = exchange(0.0, 1.0, 1.1, 1.2, 1.3, 1.4)
    late = late_s([early, last], 5)
    # The first's jump to 0.9 is from when the last did not run yet.
    assert sorted(late.round(6)) == [0, 0, 0, 0, 0, 0.03]
    assert STEP_S == 0.1
