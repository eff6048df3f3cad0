"""The warm policy on a simulated replica, in virtual time."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.stages.rate_limit import Bucket
from headstart.stages.stable_prefix import NO_TEXT, Boundary
from headstart.stages.warm_budget import PrefillSpeed, TokenBudget
from headstart.stages.warm_events import (
    Abort,
    Answered,
    Closed,
    Committed,
    Edited,
    Moved,
    Planned,
    Render,
    RenderFailed,
    Rendering,
    Restarted,
    Warm,
    Warmed,
    Why,
)
from headstart.stages.warm_ledger import WarmLedger
from headstart.stages.warm_policy import WarmLimits, WarmPolicy
from tests.stages.warm_bench import (
    BLOCK,
    HEAD,
    SLICE_S,
    SPEED,
    STEP_S,
    TAIL,
    Bench,
    render,
)

WORDS = "one two three four five six seven eight nine ten eleven twelve "


def test_the_head_is_computed_before_anything_is_typed() -> None:
    bench = Bench()

    bench.run(1)

    assert [tokens for _, tokens in bench.slices] == [HEAD[: BLOCK + 1]]


def test_slices_follow_one_another_until_no_block_is_missing() -> None:
    bench = Bench()
    bench.type(WORDS * 3)

    bench.run(5)

    assert bench.num_cached(bench.stable) == bench.whole > 30
    assert bench.computed == bench.num_cached(bench.stable)
    for (began, tokens), (later, more) in pairwise(bench.slices):
        assert tokens == more[: len(tokens)]
        assert later - began <= SLICE_S + STEP_S
        assert len(more) - len(tokens) <= SLICE_S * SPEED
    assert bench.policy.warm_tokens == bench.num_cached(bench.stable)
    assert bench.policy.deadline() is None


def test_typing_without_a_pause_is_warmed_all_the_same() -> None:
    bench = Bench()
    for letter in WORDS * 3:
        bench.type(letter)
        bench.run(0.05)

    assert len(bench.stable) - bench.num_cached(bench.stable) < 4 * BLOCK
    assert bench.num_renders < len(WORDS * 3) / BLOCK


def test_a_text_is_rendered_a_few_times_a_block() -> None:
    bench = Bench()
    for letter in WORDS * 20:
        bench.type(letter)
        bench.run(0.25)

    assert bench.num_renders < 3 * len(bench.stable) / BLOCK
    assert len(bench.stable) - bench.num_cached(bench.stable) < 4 * BLOCK


@pytest.mark.parametrize("key_s", [0.25, 0.05])
@pytest.mark.parametrize("num_words", range(20, 20 + 2 * BLOCK))
def test_no_block_is_left_that_could_be_there_when_the_last_key_comes(
    num_words: int, key_s: float
) -> None:
    """Whatever part of a block the text ends in, and whether or not a key is a pause."""
    bench = Bench()
    *keys, last_key = list(" ".join((WORDS * 3).split()[:num_words]))
    for letter in keys:
        bench.type(letter)
        bench.run(key_s)
    known = bench.whole
    bench.type(last_key)

    whole = render(bench.document.text)
    assert bench.num_cached(bench.stable) == known
    assert len(whole) - known < BLOCK + 1 + len(TAIL)  # a word that may still change


@given(st.lists(st.sampled_from(WORDS.split()), min_size=8, max_size=60), st.floats(0.11, 0.5))
@settings(max_examples=100, deadline=None)
def test_a_pause_of_a_debounce_leaves_less_than_a_block(words: list[str], key_s: float) -> None:
    bench = Bench()
    for letter in " ".join(words):
        bench.type(letter)
        bench.run(key_s)
    bench.run(WarmLimits().max_wait_s)

    assert len(bench.stable) - bench.num_cached(bench.stable) < BLOCK


def test_only_a_word_that_has_ended_is_a_reason_to_render() -> None:
    bench = Bench()
    bench.type(WORDS)
    bench.run(5)
    while bench.policy.planned_tokens % BLOCK != BLOCK - 2:
        bench.type("word ")
        bench.run(5)
    bench.type("x")
    bench.run(5)
    assert bench.policy.planned_tokens % BLOCK == BLOCK - 1
    done = bench.num_renders
    for letter in "internationalisation ":
        bench.type(letter)
        bench.run(0.25)

    assert bench.num_renders == done
    bench.type("x")
    bench.run(0.25)
    assert bench.num_cached(bench.stable) == bench.whole == bench.policy.planned_tokens


def test_what_is_denser_than_expected_is_computed_in_a_pause() -> None:
    bench = Bench()
    bench.type("internationalisation " * 40)
    bench.run(5)
    for letter in "a b c d e f g ":
        bench.type(letter)
        bench.run(0.25)
    assert bench.num_cached(bench.stable) < bench.whole
    bench.run(1.5)
    assert bench.num_cached(bench.stable) == bench.whole


def test_a_correction_waits_for_the_next_one() -> None:
    bench = Bench()
    bench.type(WORDS * 3)
    bench.run(5)
    done, renders = len(bench.slices), bench.num_renders
    for _ in range(8):
        bench.edit(10, 11, "x")
        bench.run(0.3)

    assert (len(bench.slices), bench.num_renders) == (done, renders)
    bench.run(5)
    assert bench.num_renders == renders + 1
    assert bench.num_cached(bench.stable) == bench.whole
    # From the common prefix on: the head and two words.
    assert len(bench.slices[done][1]) - 1 <= len(HEAD) + 2 + SLICE_S * SPEED


def test_an_edit_aborts_only_what_it_makes_useless() -> None:
    bench = Bench()
    bench.type(WORDS * 8)
    bench.run(0.2)
    assert bench.slices
    bench.edit(len(bench.document.text) - 1, len(bench.document.text), "x")
    assert not bench.aborts
    bench.edit(1, 2, "x")
    assert bench.aborts == [Why.EDITED]


def test_commit_aborts_and_nothing_is_begun_until_the_answer_is_over() -> None:
    bench = Bench()
    bench.type(WORDS * 8)
    bench.run(0.2)
    bench.feed(Committed())
    done = len(bench.slices)

    bench.run(60)

    assert bench.aborts == [Why.COMMITTED]
    assert len(bench.slices) == done
    assert bench.policy.deadline() is None
    bench.clear()
    bench.feed(Answered())
    bench.type(WORDS * 8)
    bench.run(10)
    assert bench.num_cached(bench.stable) == bench.whole


PROMPT, SAID = list(range(10, 24)), tuple(range(50, 60))
BEHIND = list(range(80, 92))


@pytest.mark.parametrize(
    ("follows", "first_missing"),
    [
        ([*PROMPT, *SAID, *BEHIND], 20),  # but for the last token, which was only sampled
        ([*PROMPT, *SAID[:6], *BEHIND], 20),
        ([*PROMPT[:5], 99, *PROMPT[6:], *BEHIND], 4),
        ([*PROMPT[:9], *BEHIND, *BEHIND], 8),
    ],
)
def test_what_an_answer_has_computed_is_not_computed_again(
    follows: list[int], first_missing: int
) -> None:
    policy = WarmPolicy(WarmLimits(), PrefillSpeed(BLOCK, SLICE_S), WarmLedger(TokenBudget()))
    policy.expire(0.0)
    policy.feed(Planned(PROMPT[:10], NO_TEXT), 0.0)
    policy.feed(Warmed(0, 1.0), 0.1)
    policy.feed(Warmed(4, 1.0), 0.2)
    policy.feed(Committed(), 0.3)
    policy.feed(Restarted(), 1.0)
    policy.feed(Answered(len(PROMPT), SAID), 1.0)
    policy.feed(Rendering(), 1.0)

    (warm,) = policy.feed(Planned(follows, NO_TEXT), 1.1)

    assert isinstance(warm, Warm)
    assert warm.tokens == follows[: first_missing + BLOCK + 1]


def test_an_edit_behind_the_last_block_of_a_slice_leaves_it() -> None:
    """The id that follows the block may be any."""
    policy = WarmPolicy(WarmLimits(), PrefillSpeed(BLOCK, SLICE_S), WarmLedger(TokenBudget()))
    policy.expire(0.0)
    policy.feed(Planned(PROMPT[:8], Boundary(10, 12)), 0.0)
    (warm,) = policy.feed(Warmed(0, 1.0), 0.1)
    assert isinstance(warm, Warm)
    assert (warm.tokens[:-1], len(warm.tokens)) == (PROMPT[:8], 9)
    policy.feed(Edited(20, 40, 30, is_append=True), 0.2)
    policy.feed(Rendering(), 0.2)
    policy.feed(Planned(PROMPT[:10], Boundary(30, 32)), 0.3)

    assert policy.feed(Edited(25, 40, 0, is_append=False), 0.3) == []
    assert policy.planned_tokens == 8
    (abort,) = policy.feed(Edited(5, 40, 0, is_append=False), 0.3)
    assert abort == Abort(Why.EDITED)


def test_the_end_of_a_session_stops_everything_and_counts_what_was_computed() -> None:
    bench = Bench()
    bench.run(1)
    bench.type(WORDS * 3)
    while not bench.aborts and bench._warming is None:
        bench.run(0.01)
    known = bench.computed

    bench.feed(Closed())
    bench.run(60)

    assert bench.aborts == [Why.CLOSED]
    assert bench.ledger.settle(0).wasted_tokens == len(bench.slices[-1][1]) - 1 > known
    assert bench.policy.deadline() is None


def test_commit_stops_rendering() -> None:
    bench = Bench()
    bench.run(1)
    bench.type(WORDS)
    bench.run(0.1)
    assert bench._rendering is not None

    bench.feed(Committed())

    assert bench._rendering is None
    bench.clear()
    bench.feed(Answered())
    bench.type(WORDS)
    bench.run(10)
    assert bench.policy.warm_tokens == bench.whole


def test_long_texts_are_rendered_less_often() -> None:
    bench = Bench(render_s=1.0)
    bench.run(10)
    before = bench.num_renders
    for _ in range(300):
        bench.type("word ")
        bench.run(0.1)

    assert bench.num_renders - before <= 30 / (1 + 4) + 1


def test_renderings_that_wait_for_their_turn_are_of_what_is_typed_until_then() -> None:
    bench = Bench(turn_s=2.0)  # some words long
    bench.run(5)
    for letter in WORDS * 8:
        bench.type(letter)
        bench.run(0.1)

    assert bench.policy.warm_tokens == bench.num_cached(bench.stable)
    assert len(bench.stable) - bench.num_cached(bench.stable) < 4 * BLOCK


def test_waiting_for_a_turn_is_no_work_to_rest_from() -> None:
    bench = Bench(turn_s=100.0)
    bench.run(101)
    done = bench.num_renders
    bench.type(WORDS)
    bench.run(1)

    assert bench.num_renders == done + 1


def test_a_text_beyond_the_context_is_not_rendered_again_while_it_grows() -> None:
    bench = Bench(render_s=0.15, context=20)
    bench.type(WORDS * 3)
    bench.run(5)
    done = bench.num_renders
    for letter in WORDS * 3:
        bench.type(letter)
        bench.run(0.2)

    assert bench.num_renders == done == 2
    assert bench.policy.deadline() is None
    bench.edit(len(WORDS), len(bench.document.text), "")
    bench.run(5)
    assert bench.num_cached(bench.stable) == bench.whole > 0


@pytest.mark.parametrize("mended", [True, False])
def test_what_is_done_while_a_text_is_refused_counts(mended: bool) -> None:
    bench = Bench(render_s=1.0, context=20)
    bench.run(10)
    bench.type(WORDS * 3)
    bench.run(0.5)
    done = bench.num_renders
    if mended:
        bench.edit(len(WORDS), len(bench.document.text), "")
    else:
        bench.type(WORDS)
    bench.run(60)

    assert bench.num_renders == done + mended
    assert (bench.policy.warm_tokens > len(HEAD)) is mended


def test_a_refusal_for_what_comes_before_the_text_ends_with_that() -> None:
    bench = Bench(context=20)
    bench.type(WORDS * 3)
    bench.run(2)
    bench.context = 200
    bench.feed(Restarted())
    bench.run(5)

    assert bench.num_cached(bench.stable) == bench.whole > 20


def test_a_lost_replica_is_asked_once_a_second_however_fast_one_types() -> None:
    bench = Bench(is_lost=True)
    for letter in WORDS * 2:
        bench.type(letter)
        bench.run(0.1)

    assert bench.num_renders <= 0.1 * len(WORDS * 2) + 1


def test_a_text_that_was_not_sent_off_after_all_is_planned_as_before() -> None:
    bench = Bench()
    bench.type(WORDS * 3)
    bench.run(10)
    before = bench.num_renders, bench.policy.warm_tokens

    bench.feed(Committed())
    bench.feed(Answered())
    bench.run(60)

    assert (bench.num_renders, bench.policy.warm_tokens) == before


@pytest.mark.parametrize("turn_s", [0.0, 0.5])
def test_a_rendering_that_a_commit_stops_is_made_up_for_if_the_text_is_not_sent_off(
    turn_s: float,
) -> None:
    bench = Bench(turn_s=turn_s)
    bench.run(10)
    bench.type(WORDS)
    bench.run(0.1)
    bench.feed(Committed())
    assert bench._rendering is None
    bench.feed(Answered())
    bench.run(10)

    assert bench.num_cached(bench.stable) == bench.whole > len(HEAD)


@pytest.mark.parametrize("is_refused", [False, True])
def test_what_nobody_has_seen_for_long_is_looked_for_in_slices(is_refused: bool) -> None:
    bench = Bench()
    bench.type(WORDS * 8)
    bench.run(60)
    done = len(bench.slices)
    bench.forget()
    bench.run(600)
    if is_refused:  # which nobody has seen anything by
        bench.feed(Committed())
        bench.feed(Answered())
    bench.type(WORDS)
    bench.run(60)

    for _, tokens in bench.slices[done : done + 1]:
        assert len(tokens) - 1 <= SLICE_S * SPEED
    for (_, tokens), (_, more) in pairwise(bench.slices[done:]):
        assert len(more) - len(tokens) <= SLICE_S * SPEED
    assert bench.num_cached(bench.stable) == bench.whole


def test_another_replica_is_warmed_from_the_beginning() -> None:
    bench = Bench()
    bench.type(WORDS * 8)
    bench.run(0.3)
    bench.forget()
    bench.feed(Moved(PrefillSpeed(BLOCK, SLICE_S)))
    assert bench.aborts == [Why.MOVED]
    bench.run(60)

    assert bench.num_cached(bench.stable) == bench.whole


def test_a_lost_replica_is_asked_again_once_a_second() -> None:
    bench = Bench(is_lost=True)
    bench.run(10)

    assert 10 <= bench.num_renders <= 12
    bench.is_lost = False
    bench.type(WORDS)
    bench.run(5)
    assert bench.num_cached(bench.stable) == bench.whole


def test_a_refused_text_is_not_rendered_again() -> None:
    bench = Bench()
    bench.run(1)
    bench.type(WORDS)
    bench.now += 0.1
    assert bench.policy.expire(bench.now) == [Render()]
    bench.feed(Rendering())
    bench.feed(RenderFailed(is_final=True))

    assert bench.policy.deadline() is None


def test_the_account_of_a_turn() -> None:
    bench = Bench()
    bench.cache.add(tuple(HEAD[:BLOCK]))
    bench.type(WORDS * 3)
    bench.run(10)
    cached = bench.num_cached(render(bench.document.text))

    account = bench.ledger.settle(cached)

    assert account.computed_tokens == account.used_tokens == bench.computed == cached - BLOCK
    assert account.wasted_tokens == 0
    assert account.hidden_s == account.seconds > bench.computed / SPEED
    assert bench.ledger.settle(0).computed_tokens == 0


def test_what_was_edited_away_is_waste() -> None:
    bench = Bench()
    bench.type(WORDS * 3)
    bench.run(10)
    before = bench.computed
    bench.edit(0, 3, "uno")
    bench.run(10)

    account = bench.ledger.settle(bench.num_cached(render(bench.document.text)))

    assert account.computed_tokens == bench.computed
    assert account.wasted_tokens == before - BLOCK
    assert 0 < account.hidden_s < account.seconds


def test_what_is_cleared_is_forgotten() -> None:
    bench = Bench()
    bench.type(WORDS * 3)
    bench.run(10)

    bench.edit(0, len(bench.document.text), "")

    assert bench.policy._warm == HEAD[: len(bench.policy._warm)]
    assert len(bench.policy._warm) >= BLOCK
    assert bench.policy._plan == HEAD


def test_the_budget_is_kept() -> None:
    capacity = 60
    bench = Bench(budget=TokenBudget(Bucket(capacity)))
    bench.type(WORDS * 20)
    bench.run(90)

    assert bench.computed <= capacity * 2.5 + SLICE_S * SPEED
    assert bench.num_starved > 0
    bench.run(300)
    assert bench.num_cached(bench.stable) == bench.whole


scripts = st.lists(
    st.one_of(
        st.tuples(st.just("type"), st.text("ab \n", min_size=1, max_size=60)),
        st.tuples(st.just("edit"), st.integers(0, 400), st.integers(0, 30), st.text("cd ")),
        st.tuples(st.just("wait"), st.floats(0, 200)),
        st.tuples(st.just("clear")),
        st.tuples(st.just("restart")),
        st.tuples(st.just("forget")),
        st.tuples(st.just("move")),
        st.tuples(st.just("lose"), st.booleans()),
        st.tuples(st.just("turns"), st.floats(0, 3)),
        st.tuples(st.just("context"), st.integers(4, 60)),
        st.tuples(st.just("commit"), st.floats(0, 3), st.booleans()),
    ),
    max_size=40,
)


@pytest.mark.parametrize("tokens_per_minute", [None, 200])
@settings(max_examples=200, deadline=None)
@given(script=scripts)
def test_any_script_ends_warm(script: list[tuple], tokens_per_minute: int | None) -> None:  # type: ignore[type-arg]
    budget = TokenBudget(*([Bucket(tokens_per_minute)] if tokens_per_minute else []))
    bench = Bench(budget=budget)
    for kind, *rest in script:
        match kind:
            case "type":
                bench.type(rest[0])
            case "edit":
                start = min(rest[0], len(bench.document.text))
                bench.edit(start, min(start + rest[1], len(bench.document.text)), rest[2])
            case "wait":
                bench.run(rest[0])
            case "clear":
                bench.edit(0, len(bench.document.text), "")
            case "restart":
                bench.feed(Restarted())
            case "forget":
                bench.forget()
            case "move":
                bench.forget()
                bench.feed(Moved(PrefillSpeed(BLOCK, SLICE_S)))
            case "lose":
                bench.is_lost = rest[0]
            case "turns":
                bench.turn_s = rest[0]
            case "context":
                bench.context = rest[0]
                bench.feed(Restarted())
            case "commit":
                bench.feed(Committed())
                done = len(bench.slices)
                bench.run(rest[0])
                assert len(bench.slices) == done
                bench.ledger.settle(0)
                if rest[1]:
                    bench.clear()
                bench.feed(Answered())
    bench.is_lost = False
    bench.context = 1 << 20
    bench.feed(Restarted())
    bench.type(" the end is near enough to be seen")
    bench.run(3600)

    assert bench.policy.deadline() is None
    assert len(bench.stable) - bench.policy.warm_tokens < BLOCK
