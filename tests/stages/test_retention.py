"""Which finished logs are forgotten, compared with a list that does the same slowly."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.retention import Retention

TTL_S, MAX_BYTES = 10.0, 100


@dataclass
class Kept:
    stream_id: str
    size_bytes: int
    finished_at: float


class Reference:
    """The same promise, without an index or a running total."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []

    @property
    def total_bytes(self) -> int:
        return sum(log.size_bytes for log in self.kept)

    def removed(self, stream_id: str) -> None:
        self.kept = [log for log in self.kept if log.stream_id != stream_id]

    def finished(self, stream_id: str, size_bytes: int, now: float) -> None:
        self.removed(stream_id)
        self.kept.append(Kept(stream_id, size_bytes, now))

    def expire(self, now: float) -> set[str]:
        before = {log.stream_id for log in self.kept}
        self.kept = [
            log
            for log in self.kept
            if log.size_bytes <= MAX_BYTES and log.finished_at + TTL_S > now
        ]
        while self.total_bytes > MAX_BYTES:
            self.kept.pop(0)
        return before - {log.stream_id for log in self.kept}


ids = st.sampled_from("abcdef")
events = st.one_of(
    st.tuples(st.just("finished"), ids, st.integers(0, 130)),
    st.tuples(st.just("removed"), ids, st.just(0)),
    st.tuples(st.just("expire"), st.just(""), st.integers(0, 12)),
)


@given(st.lists(events, max_size=40))
def test_it_forgets_what_the_reference_forgets(happened: list[tuple[str, str, int]]) -> None:
    retention, reference, now = Retention(TTL_S, MAX_BYTES), Reference(), 0.0
    for event, stream_id, number in happened:
        if event == "finished":
            retention.finished(stream_id, number, now)
            reference.finished(stream_id, number, now)
        elif event == "removed":
            retention.removed(stream_id)
            reference.removed(stream_id)
        else:
            now += number
            gone = retention.expire(now)
            assert set(gone) == reference.expire(now)
            assert len(gone) == len(set(gone))
        assert retention.total_bytes == reference.total_bytes


def test_the_oldest_goes_first() -> None:
    retention = Retention(TTL_S, MAX_BYTES)
    for now, stream_id in enumerate("abc"):
        retention.finished(stream_id, 40, float(now))

    assert retention.expire(2.0) == ["a"]
    assert retention.expire(10.9) == []
    assert retention.expire(11.0) == ["b"]
    assert retention.expire(12.0) == ["c"]


def test_a_log_too_large_to_keep_pushes_out_no_other() -> None:
    retention = Retention(TTL_S, MAX_BYTES)
    retention.finished("small", 60, 0.0)
    retention.finished("huge", MAX_BYTES + 1, 1.0)

    assert retention.expire(1.0) == ["huge"]
    assert retention.total_bytes == 60


def test_a_log_that_finishes_again_is_counted_once() -> None:
    retention = Retention(TTL_S, MAX_BYTES)
    retention.finished("a", 60, 0.0)
    retention.finished("b", 10, 1.0)
    retention.finished("a", 70, 5.0)

    assert retention.total_bytes == 80
    assert retention.expire(11.0) == ["b"]
    assert retention.expire(15.0) == ["a"]
