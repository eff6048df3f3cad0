"""Which finished logs are forgotten, compared with a list that does the same slowly."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.retention import KEPT_BYTES, Retention

TTL_S, MAX_COST = 10.0, 100


def costing(amount: int) -> int:
    """Size of a log that costs so many times what an empty one does."""
    return (amount - 1) * KEPT_BYTES


def empty() -> Retention:
    return Retention(TTL_S, MAX_COST * KEPT_BYTES)


def cost(retention: Retention) -> float:
    return retention.total_bytes / KEPT_BYTES


@dataclass
class Kept:
    stream_id: str
    cost: int
    finished_at: float


class Reference:
    """The same promise, without an index or a running total."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []

    @property
    def total_cost(self) -> int:
        return sum(log.cost for log in self.kept)

    def removed(self, stream_id: str) -> None:
        self.kept = [log for log in self.kept if log.stream_id != stream_id]

    def finished(self, stream_id: str, cost: int, now: float) -> None:
        self.removed(stream_id)
        self.kept.append(Kept(stream_id, cost, now))

    def expire(self, now: float) -> set[str]:
        before = {log.stream_id for log in self.kept}
        self.kept = [
            log for log in self.kept if log.cost <= MAX_COST and log.finished_at + TTL_S > now
        ]
        while self.total_cost > MAX_COST:
            self.kept.pop(0)
        return before - {log.stream_id for log in self.kept}


ids = st.sampled_from("abcdef")
events = st.one_of(
    st.tuples(st.just("finished"), ids, st.integers(1, 130)),
    st.tuples(st.just("removed"), ids, st.just(0)),
    st.tuples(st.just("expire"), st.just(""), st.integers(0, 12)),
)


@given(st.lists(events, max_size=40))
def test_it_forgets_what_the_reference_forgets(happened: list[tuple[str, str, int]]) -> None:
    retention, reference, now = empty(), Reference(), 0.0
    for event, stream_id, number in happened:
        if event == "finished":
            retention.finished(stream_id, costing(number), now)
            reference.finished(stream_id, number, now)
        elif event == "removed":
            retention.removed(stream_id)
            reference.removed(stream_id)
        else:
            now += number
            gone = retention.expire(now)
            assert set(gone) == reference.expire(now)
            assert len(gone) == len(set(gone))
        assert cost(retention) == reference.total_cost


def test_the_oldest_goes_first() -> None:
    retention = empty()
    for now, stream_id in enumerate("abc"):
        retention.finished(stream_id, costing(40), float(now))

    assert retention.expire(2.0) == ["a"]
    assert retention.expire(10.9) == []
    assert retention.expire(11.0) == ["b"]
    assert retention.expire(12.0) == ["c"]


def test_a_log_too_large_to_keep_pushes_out_no_other() -> None:
    retention = empty()
    retention.finished("small", costing(60), 0.0)
    retention.finished("huge", costing(MAX_COST) + 1, 1.0)

    assert retention.expire(1.0) == ["huge"]
    assert cost(retention) == 60


def test_a_log_that_finishes_again_is_counted_once() -> None:
    retention = empty()
    retention.finished("a", costing(60), 0.0)
    retention.finished("b", costing(10), 1.0)
    retention.finished("a", costing(70), 5.0)

    assert cost(retention) == 80
    assert retention.expire(11.0) == ["b"]
    assert retention.expire(15.0) == ["a"]
