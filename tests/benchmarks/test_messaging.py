"""Every messaging arm carries an ask to its end; how fast is the benchmark's business."""

import shutil

import pytest

from headstart.benchmarks.messaging_links import ARMS, Credentials
from headstart.benchmarks.messaging_turn import Ask, take_turn


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_arm_takes_its_turn(arm: str) -> None:
    # Without a period, and more than the window holds: the sender has to wait for credit.
    asks = (Ask(3, 2, 0.01), Ask(64, 30, 0.0))

    turn = take_turn(arm, Credentials.make("0123456789abcdef"), 16 * 1024, asks)

    assert [len(phase.hops_s) for phase in turn.phases] == [2, 30]
    for phase in turn.phases:
        assert all(0 < hop_s < phase.wall_s for hop_s in phase.hops_s)
        assert phase.sender_cpu_s > 0
        assert phase.receiver_cpu_s > 0
    assert all(first_s > 0 for first_s in turn.first_message_s)
