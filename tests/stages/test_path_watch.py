"""When datagrams are given up though the path works, and when not."""

import pytest

from headstart.stages.path_watch import PathWatch


class Path:
    """Sends a datagram each 50 ms; the transport confirms a share of its packets."""

    def __init__(self) -> None:
        self.watch = PathWatch()
        self.now = 5.0
        self.num_sent = self.num_confirmed = 0
        self.failed_at: float | None = None

    def run(self, seconds: float, *, confirmed: bool, answered: bool = False) -> None:
        for _ in range(round(seconds / 0.05)):
            self.now += 0.05
            self.num_sent += 1
            self.num_confirmed += confirmed
            self.watch.sent(self.num_confirmed, self.now)
            if answered:
                self.watch.acked(self.num_sent)
            if self.failed_at is None and self.watch.has_failed(self.num_confirmed, self.now):
                self.failed_at = self.now


@pytest.fixture
def path() -> Path:
    return Path()


def test_datagrams_alone_that_are_lost_are_given_up(path: Path) -> None:
    path.run(10, confirmed=True, answered=True)
    assert path.failed_at is None
    path.run(10, confirmed=True)

    assert path.failed_at == pytest.approx(15 + 3, abs=0.1)


def test_datagrams_that_never_worked_are_given_up_too(path: Path) -> None:
    path.run(10, confirmed=True)
    assert path.failed_at == pytest.approx(5 + 3, abs=0.1)


def test_a_blackout_is_waited_out_whatever_was_in_flight_before_it(path: Path) -> None:
    path.run(10, confirmed=True, answered=True)
    path.run(0.5, confirmed=True)
    path.run(20, confirmed=False)
    assert path.failed_at is None
    # Its end confirms a packet or two before the first answer.
    path.run(0.1, confirmed=True)
    path.run(5, confirmed=True, answered=True)
    assert path.failed_at is None


def test_acknowledgements_of_a_streams_bytes_say_nothing_of_datagrams(path: Path) -> None:
    path.run(1, confirmed=True, answered=True)
    for _ in range(100):
        path.run(0.1, confirmed=True)
        path.watch.acked(20)
    assert path.failed_at is not None


def test_a_slow_speaker_is_given_time(path: Path) -> None:
    for second in range(15):
        path.watch.sent(10 * second, float(second))
        assert not path.watch.has_failed(10 * second, float(second))
