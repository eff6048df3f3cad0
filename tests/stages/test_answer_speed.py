"""What is believed of a replica's speed, and which pool that makes a request go to."""

import random
import statistics
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.answer_speed import AnswerSpeed
from headstart.stages.routing import Candidate, Routed, Wanted, is_hot, pool_for

IN_GERMAN = Wanted("de", is_drafted=True)


def test_speed_is_of_as_many_answers() -> None:
    speed = AnswerSpeed()
    for at in range(20):
        speed.observe(1, 4, 0.1, float(at))
        speed.observe(8, 16, 1.6, float(at))

    assert speed.at(1, 20.0) == pytest.approx(40.0)
    assert speed.at(12, 20.0) == pytest.approx(10.0)
    assert speed.at(99, 20.0) == pytest.approx(10.0)  # the next that is known
    assert speed.at(3, 20.0) == pytest.approx(40.0)


def test_a_glimpse_is_not_believed_and_nothing_is_for_ever() -> None:
    speed = AnswerSpeed(lifetime_s=60.0)
    speed.observe(2, 1, 0.1, 0.0)
    assert speed.at(2, 0.0) is None
    speed.observe(2, 19, 1.9, 1.0)
    assert speed.at(2, 61.0) == pytest.approx(10.0)
    assert speed.at(2, 61.1) is None
    speed.observe(2, 40, 2.0, 62.0)
    assert speed.at(2, 62.0) == pytest.approx(20.0)


@given(
    st.lists(st.tuples(st.integers(1, 99), st.integers(1, 64), st.floats(1e-6, 1e4)), max_size=40)
)
def test_speed_is_between_the_slowest_and_the_fastest(seen: list[tuple[int, int, float]]) -> None:
    speed = AnswerSpeed()
    for num_rows, num_tokens, seconds in seen:
        speed.observe(num_rows, num_tokens, seconds, 0.0)
    speeds = [num_tokens / seconds for _, num_tokens, seconds in seen]
    for num_rows in range(1, 128):
        if (known := speed.at(num_rows, 0.0)) is not None:
            assert 0.999 * min(speeds) <= known <= 1.001 * max(speeds)


Speed = Callable[[int], float]
"""Tokens a second of one answer, by how many are made at once."""


def drafting(rows: int) -> float:
    """Fast alone; under load drafts cost more than they bring."""
    return 80 / (1 + 0.25 * (rows - 1))


def plain(rows: int) -> float:
    return 30 / (1 + 0.03 * (rows - 1))


def slow(rows: int) -> float:
    """A drafter that is never right."""
    return 0.6 * plain(rows)


class Cluster:
    """Two replicas, of which one drafts, and answers in one language that come and go."""

    def __init__(self, german: Speed, common: Speed, seed: int = 0, noise: float = 0.05) -> None:
        self.speeds: dict[str | None, Speed] = {"de": german, None: common}
        self.rows: dict[str | None, list[float]] = {"de": [], None: []}
        """Tokens that each answer still gets."""
        self.measured = {pool: AnswerSpeed() for pool in self.rows}
        self.random = random.Random(seed)
        self.noise = noise
        self.now = 0.0
        self.hot: set[str] = set()
        self.went: list[tuple[str | None, Routed]] = []

    def candidate(self, pool: str | None) -> Candidate:
        rows = len(self.rows[pool])
        return Candidate(rows, 0, rows, self.measured[pool].at(rows + 1, self.now))

    def arrive(self, num_tokens: float = 100.0) -> None:
        pools = {"de": [self.candidate("de")]}
        pool, why = pool_for(IN_GERMAN, pools, [self.candidate(None)], self.hot)
        (self.hot.add if why is Routed.HOT else self.hot.discard)("de")
        self.went.append((pool, why))
        self.rows[pool].append(num_tokens)

    def run(self, seconds: float, arrivals_per_s: float) -> None:
        end, step_s = self.now + seconds, 0.1
        while self.now < end:
            self.now += step_s
            if self.random.random() < arrivals_per_s * step_s:
                self.arrive()
            for pool, rows in self.rows.items():
                if not rows:
                    continue
                noise = self.random.uniform(1 - self.noise, 1 + self.noise)
                gained = step_s * self.speeds[pool](len(rows)) * noise
                tokens = round(gained * len(rows))
                self.measured[pool].observe(len(rows), tokens, step_s * len(rows), self.now)
                self.rows[pool] = [left - gained for left in rows if left > gained]

    def share(self, last: int) -> float:
        """Of the latest arrivals, those that went to the pool."""
        latest = self.went[-last:]
        return sum(pool is not None for pool, _ in latest) / len(latest)


@pytest.mark.parametrize("seed", range(4))
def test_pool_is_taken_at_low_load(seed: int) -> None:
    cluster = Cluster(drafting, plain, seed)
    cluster.run(300, arrivals_per_s=0.3)

    assert cluster.share(60) > 0.9


@pytest.mark.parametrize("seed", range(4))
def test_pool_that_is_slower_under_load_spills_over_before_anybody_waits(seed: int) -> None:
    cluster = Cluster(drafting, plain, seed)
    cluster.run(120, arrivals_per_s=3.0)

    assert 0.1 < cluster.share(200) < 0.8
    assert cluster.rows[None]  # and nobody waited


@pytest.mark.parametrize("seed", range(4))
def test_load_does_not_swing_between_the_pools(seed: int) -> None:
    """No more than arrivals by chance do by themselves, of which three come a second."""
    cluster = Cluster(drafting, plain, seed)
    cluster.run(60, arrivals_per_s=3.0)
    rows = []
    for _ in range(120):
        cluster.run(0.5, arrivals_per_s=3.0)
        rows.append(len(cluster.rows["de"]))
    latest = [why for _, why in cluster.went[-150:]]
    num_changes = sum(one is not other for one, other in pairwise(latest))

    assert statistics.pstdev(rows) < 4
    assert num_changes < len(latest) / 3


@pytest.mark.parametrize("seed", range(4))
def test_drafter_that_never_pays_is_left_for_all_but_a_few(seed: int) -> None:
    cluster = Cluster(slow, plain, seed)
    cluster.run(600, arrivals_per_s=1.0)

    assert cluster.share(300) < 0.4


@pytest.mark.parametrize("seed", range(4))
def test_it_recovers(seed: int) -> None:
    cluster = Cluster(slow, plain, seed)
    cluster.run(300, arrivals_per_s=0.5)
    cluster.speeds["de"] = drafting
    cluster.run(300, arrivals_per_s=0.3)

    assert cluster.share(40) > 0.9


measured = st.floats(1.0, 100.0)


@given(measured, st.lists(st.floats(0.93, 1.07), min_size=2, max_size=30), st.booleans())
def test_noise_does_not_flip_it(speed: float, noise: list[float], first: bool) -> None:
    """Two pools that are as fast as each other stay with what was."""
    common = [Candidate(1, 0, 1, speed)]
    hot = first
    for factor in noise:
        hot = is_hot([Candidate(1, 0, 1, speed * factor)], common, was_hot=hot)
        assert hot is first


@given(measured, measured, st.booleans())
def test_what_is_clearly_faster_is_taken(here: float, there: float, was_hot: bool) -> None:
    hot = is_hot([Candidate(3, 0, 3, here)], [Candidate(3, 0, 3, there)], was_hot=was_hot)

    assert hot or here >= 0.9 * there
    assert not hot or here <= 1.1 * there


def test_what_is_not_known_is_found_out() -> None:
    few, many = Candidate(1, 0), Candidate(2, 0, num_running=9)
    assert not is_hot([few], [Candidate(0, 0)])
    assert is_hot([many], [Candidate(0, 0)])
    assert not is_hot([many], [])
