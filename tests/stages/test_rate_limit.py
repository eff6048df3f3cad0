"""Limits of a key: never more than was promised, never less, and honest about when."""

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.stages.rate_limit import Bucket, RateLimit, Refusal

MOST_TOKENS = 500


@dataclass(frozen=True, slots=True)
class Step:
    """Some time passes; an answer may end; then a request comes."""

    pause_s: float
    ends: bool
    num_tokens: int


@dataclass
class Run:
    """What came of a list of steps."""

    admitted: list[float] = field(default_factory=list)
    charged: list[tuple[float, int]] = field(default_factory=list)
    most_running: int = 0


steps = st.lists(
    st.builds(Step, st.floats(0, 90), st.booleans(), st.integers(0, MOST_TOKENS)), max_size=60
)
limits = st.none() | st.integers(1, 50)


def run(limit: RateLimit, course: list[Step]) -> Run:
    done = Run()
    now, running = 0.0, 0
    for step in course:
        now += step.pause_s
        if step.ends and running:
            running -= 1
            limit.ended(step.num_tokens, now)
            done.charged.append((now, step.num_tokens))
        if limit.admit(now) is None:
            running += 1
            done.admitted.append(now)
        done.most_running = max(done.most_running, running)
        assert limit.num_running == running
    return done


@given(steps, limits, limits)
def test_no_span_of_time_holds_more_requests_than_promised(
    course: list[Step], concurrent: int | None, per_minute: int | None
) -> None:
    done = run(RateLimit(concurrent, per_minute, None), course)

    assert concurrent is None or done.most_running <= concurrent
    if per_minute is None:
        return
    for first, start in enumerate(done.admitted):
        for last in range(first, len(done.admitted)):
            span_s = done.admitted[last] - start
            assert last - first + 1 <= per_minute * (1 + span_s / 60) + 1e-6


@given(steps, st.integers(1, 4), st.integers(1, 2000))
def test_tokens_are_overdrawn_by_no_more_than_the_answers_in_the_making(
    course: list[Step], concurrent: int, per_minute: int
) -> None:
    done = run(RateLimit(concurrent, None, per_minute), course)

    for first, (start, _) in enumerate(done.charged):
        total = 0
        for at, num_tokens in done.charged[first:]:
            total += num_tokens
            allowed = per_minute * (1 + (at - start) / 60) + concurrent * MOST_TOKENS
            assert total <= allowed + 1e-6


@given(steps, limits, limits)
def test_who_waits_as_told_is_admitted(
    course: list[Step], per_minute: int | None, tokens: int | None
) -> None:
    limit = RateLimit(None, per_minute, tokens)
    run(limit, course)
    now = sum(step.pause_s for step in course)

    refusal = None
    for _ in range(51):  # one more than any limit here
        refusal = limit.admit(now)
        if refusal is not None:
            break
        limit.ended(3, now)
    assert (refusal is None) == (per_minute is None and tokens is None)
    if refusal is not None:
        assert limit.admit(now + refusal.retry_after_s * 0.99 - 1e-6) is not None
        assert limit.admit(now + math.ceil(refusal.retry_after_s)) is None


def test_no_limit_admits_everyone() -> None:
    limit = RateLimit()

    assert [limit.admit(0.0) for _ in range(100)] == [None] * 100
    assert limit.quotas(0.0) == []


def test_place_is_free_again_when_an_answer_ends() -> None:
    limit = RateLimit(max_concurrent=1)
    assert limit.admit(0.0) is None

    assert limit.admit(0.0) == Refusal("max_concurrent", 1.0)
    limit.ended(10, 1.0)
    assert limit.admit(1.0) is None


def test_refused_request_costs_nothing() -> None:
    limit = RateLimit(max_concurrent=1, requests_per_minute=2)
    limit.admit(0.0)
    assert limit.admit(0.0) is not None
    limit.ended(0, 0.0)

    assert limit.admit(0.0) is None


def test_debt_is_paid_before_the_next_request() -> None:
    limit = RateLimit(tokens_per_minute=60)
    limit.admit(0.0)
    limit.ended(90, 0.0)

    assert limit.admit(30.0) == Refusal("tokens_per_minute", 1.0)
    assert limit.admit(31.0) is None


def test_longest_wait_is_the_one_that_is_told() -> None:
    limit = RateLimit(max_concurrent=1, requests_per_minute=1)
    limit.admit(0.0)

    assert limit.admit(15.0) == Refusal("requests_per_minute", 45.0)


def test_quota_says_what_is_left_and_when_all_is_back() -> None:
    limit = RateLimit(requests_per_minute=60, tokens_per_minute=600)
    limit.admit(0.0)
    limit.ended(700, 0.0)

    requests, tokens = limit.quotas(0.0)

    assert (requests.unit, requests.limit, requests.remaining) == ("requests", 60, 59)
    assert requests.reset_s == pytest.approx(1.0)
    assert (tokens.unit, tokens.limit, tokens.remaining) == ("tokens", 600, 0)
    assert tokens.reset_s == pytest.approx(70.0)


def test_clock_that_goes_back_fills_nothing() -> None:
    bucket = Bucket(60)
    bucket.take(60, 100.0)

    assert bucket.level(50.0) == bucket.level(100.0) == 0
    assert bucket.level(101.0) == pytest.approx(1.0)


def test_answer_admitted_elsewhere_takes_a_place_and_is_charged() -> None:
    limit = RateLimit(max_concurrent=1, tokens_per_minute=60)
    limit.admit(0.0)

    limit.resume()

    assert limit.num_running == 2
    limit.ended(0, 0.0)
    assert limit.admit(0.0) == Refusal("max_concurrent", 1.0)
    limit.ended(62, 0.0)
    assert limit.admit(0.0) == Refusal("tokens_per_minute", 3.0)
