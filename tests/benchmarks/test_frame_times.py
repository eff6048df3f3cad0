"""How late frames are, from a log, its arrivals and the engine's first step."""

import pytest

from headstart.benchmarks.frame_times import Receipt, delivery_of
from headstart.stages.frames import Channel, Frame, StreamHeader
from headstart.stages.token_log import TokenLog

EVENT = Frame(0, Channel.EVENT, "", (), 900_000, b"{}")


def receipt(*arrivals: tuple[float, list[Frame]]) -> Receipt:
    """An answer whose frames came at given times; its first token was sampled at 101 s."""
    log = TokenLog(1 << 16)
    log.append(StreamHeader(200, "text/event-stream", "chat", "x", "smol", 1))
    found = Receipt(asked_at=100.0, log=log, first_sampled_at=101.0)
    for at, frames in arrivals:
        for frame in frames:
            log.append(frame)
        found.arrivals.append((log.end, at))
    return found


def token(at_s: float, *tokens: int) -> Frame:
    return Frame(0, Channel.CONTENT, " word", tokens, round(at_s * 1e6))


def test_each_token_counts_from_its_own_step() -> None:
    # The stream's own clock began at 100 s, one second before the first token.
    answer = receipt(
        (101.002, [EVENT, token(1.0, 7)]),
        (101.021, [token(1.02, 8)]),
        (101.1, [token(1.04, 9, 10), token(1.06, 11), EVENT]),
    )
    found = delivery_of([answer])
    assert found.late_s == pytest.approx([0.002, 0.001, 0.06, 0.06, 0.04])
    assert found.num_tokens == 5
    assert found.seconds == pytest.approx(1.1)


def test_answers_asked_for_together_are_summed_up() -> None:
    found = delivery_of([receipt((101.5, [token(1.0, 7)])), receipt((102.0, [token(1.0, 7)]))])
    assert found.late_s == pytest.approx([0.5, 1.0])
    assert found.seconds == pytest.approx(2.0)
