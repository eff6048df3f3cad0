"""What live prompts have computed ahead: where it is of use, and on whose account it goes."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from headstart.cluster.engine import EngineRequest, Warmth
from headstart.cluster.stream import Stream
from headstart.monitoring.live_meter import LiveMeter
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.live_thinker import LiveThinker, Question, ThinkingModel
from headstart.pipeline.live_warmer import LiveWarmer, Prompt
from headstart.stages.errors import EngineLost
from headstart.stages.live_mind import LiveMind, MindLimits
from headstart.stages.mind_events import Failed, Think
from headstart.stages.mirror import StreamEnd
from headstart.stages.rate_limit import Bucket
from headstart.stages.segmenter import segment_ends
from headstart.stages.stable_prefix import boundary, continuations
from headstart.stages.stage_clock import Mark
from headstart.stages.thoughts import BASIC_ACTIONS
from headstart.stages.warm_budget import PrefillSpeed, TokenBudget
from headstart.stages.warm_events import Edited, Restarted
from headstart.stages.warm_ledger import WarmLedger
from headstart.stages.warm_policy import WarmLimits, WarmPolicy
from tests.monitoring.exposition import Exposition
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

BLOCK = 4
TEXT = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
WHOLE = 12
"""Tokens of it in whole blocks."""


class Link:
    """A replica: every word is a token."""

    def __init__(self) -> None:
        self.num_renders = 0
        self.warmed: list[tuple[str | None, str | None, int]] = []
        """Model, salt and length of every slice."""
        self.error: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.served: Stream | None = None
        """What waits in the engine for its first token."""
        self.is_held = False
        """Whether it gets no further than the replica."""

    async def render(self, request: EngineRequest) -> list[int]:
        self.num_renders += 1
        return [sum(word) for word in request.body.split()]

    async def warm(self, tokens: list[int], *, cache_salt: str | None, model: str) -> Warmth:
        self.warmed.append((model, cache_salt, len(tokens) - 1))
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return Warmth(len(tokens) - 1 - BLOCK, 0.01)

    def serve(self, _: EngineRequest) -> Stream:
        self.served = Stream("thought", 1000)
        if not self.is_held:
            self.served.mark(Mark.TOKENISED, 0.0)
        return self.served

    async def abort(self, _: str) -> None:
        assert self.served is not None
        self.served.finish(StreamEnd(is_aborted=True))


@dataclass
class Place:
    """A session and its replica, as what computes and thinks for it finds them."""

    bucket: Bucket = field(default_factory=lambda: Bucket(10_000))
    asked: Prompt = field(default_factory=lambda: Prompt("small", TEXT, 1, _request, None))
    thought: str = TEXT
    """Prompt of one."""

    def __post_init__(self) -> None:
        self.link: Any = Link()
        self.metrics = Metrics(("small", "poet"), "0")
        self.ledger = WarmLedger(TokenBudget(self.bucket))
        policy = WarmPolicy(WarmLimits(), PrefillSpeed(BLOCK, 0.01), self.ledger)
        self.turns = asyncio.Semaphore(1)
        self.warmer = LiveWarmer(self, self, policy, self.ledger, self.turns)

    def thinker(self, model: str = "small") -> LiveThinker:
        mind = LiveMind(MindLimits(), segment_ends, TokenBudget())
        meter = self.metrics.live(model)
        thinking = ThinkingModel(model, model == "small", BASIC_ACTIONS, meter)
        thinker = LiveThinker(mind, thinking, self, self)
        thinker._replica()
        return thinker

    def prompt(self) -> Prompt:
        return self.asked

    def meter(self) -> LiveMeter:
        return self.metrics.live("small")

    def tell(self, _: object) -> None: ...

    def question(self, _: object) -> Question:
        return Question(_request(self.thought), None)

    def rethought(self) -> None: ...

    def forget(self, _: str) -> None: ...

    def stay(self, model: str, link: Any, wanted: Any = None, *, may_leave: bool = False) -> Any:
        return self.link

    def speed(self, _link: Any) -> PrefillSpeed:
        return PrefillSpeed(BLOCK, 0.01)

    def measured(self, name: str, **labels: str) -> float:
        return Exposition.of(self.metrics._series._registry.collect()).value(name, **labels)


def _request(text: str) -> EngineRequest:
    return EngineRequest("", "POST", "/", (), text.encode())


@pytest.mark.parametrize("change", [{"model": "poet"}, {"cache_salt": "another"}])
async def test_what_is_warm_for_one_adapter_or_salt_is_not_for_another(
    change: dict[str, Any],
) -> None:
    place = Place()
    place.warmer.start()
    await eventually(lambda: place.warmer.progress.warm_tokens == WHOLE)
    assert len(place.warmer.warm_ids(place.link, "small", None)) == WHOLE + 1
    place.link.warmed.clear()

    place.asked = replace(place.asked, **change)
    place.warmer.feed(Restarted())
    await eventually(lambda: place.warmer.progress.warm_tokens == WHOLE)

    model, salt = place.asked.model, place.asked.cache_salt
    assert place.link.warmed == [(model, salt, end) for end in (4, 8, 12)]
    assert place.warmer.warm_ids(place.link, "small", None) == []
    await place.warmer.close()


async def test_what_is_typed_while_a_rendering_waits_for_its_turn_is_in_it() -> None:
    place = Place()
    async with place.turns:  # another prompt of the key is rendered
        place.warmer.start()
        await eventually(lambda: bool(place.turns._waiters))
        place.asked = replace(place.asked, text=f"{TEXT}fifteen ", version=2)
        place.warmer.feed(Edited(len(TEXT), len(place.asked.text), len(TEXT) - 1, is_append=True))

    await eventually(lambda: place.warmer.progress.warm_tokens == WHOLE)

    at = boundary(place.asked.text)
    assert place.link.num_renders == 1 + len(continuations(place.asked.text, at))
    await place.warmer.close()


async def test_a_thought_of_an_adapter_or_with_another_salt_computes_its_own_prompt() -> None:
    place = Place()
    place.warmer.start()
    await eventually(lambda: place.warmer.progress.warm_tokens == WHOLE)
    place.link.warmed.clear()
    question = Question(_request(TEXT), None)

    await place.thinker()._prefill(place.link, question, 1)
    assert not place.link.warmed
    poet = place.thinker("poet")
    await poet._prefill(place.link, question, 1)
    assert [model for model, _, _ in place.link.warmed] == ["poet"] * 3
    await poet._prefill(place.link, question, 1)
    assert len(place.link.warmed) == 3
    await poet._prefill(place.link, replace(question, cache_salt="another"), 1)
    assert [salt for _, salt, _ in place.link.warmed[3:]] == ["another"] * 3
    await place.warmer.close()


async def test_the_prompts_of_thoughts_are_in_the_sessions_account_and_under_their_model() -> None:
    place = Place()
    await place.thinker()._prefill(place.link, Question(_request(TEXT), None), 1)
    account = place.ledger.settle(WHOLE)
    assert (account.computed_tokens, account.used_tokens) == (WHOLE, WHOLE)
    assert account.hidden_s == account.seconds == pytest.approx(0.03)

    await place.thinker("poet")._prefill(place.link, Question(_request(TEXT), None), 1)
    account = place.ledger.settle(WHOLE)
    assert (account.computed_tokens, account.wasted_tokens) == (WHOLE, WHOLE)
    for model in ("small", "poet"):
        assert place.measured("headstart_live_warm_tokens_total", model=model) == WHOLE


async def test_the_prompt_of_a_thought_waits_for_the_budget() -> None:
    place = Place(Bucket(60))
    place.bucket.take(60 - BLOCK, asyncio.get_running_loop().time())
    work = place.thinker()._prefill(place.link, Question(_request(TEXT), None), 1)
    thinking = asyncio.ensure_future(work)
    waits = "headstart_live_budget_waits_total"
    await eventually(lambda: place.measured(waits, budget="warm", model="small") == 1)
    assert len(place.link.warmed) == 1
    thinking.cancel()
    await asyncio.gather(thinking, return_exceptions=True)


async def test_a_slice_that_fails_is_given_back_and_one_that_is_stopped_counts() -> None:
    place = Place(Bucket(60))
    level = place.bucket.level(asyncio.get_running_loop().time())
    place.link.error = EngineLost("gone")
    question = Question(_request(TEXT), None)
    with pytest.raises(EngineLost):
        await place.thinker()._prefill(place.link, question, 1)
    assert place.bucket.level(0.0) == pytest.approx(level, abs=BLOCK / 2)
    assert place.ledger.settle(0).computed_tokens == 0

    place.link.go_on.clear()
    thinking = asyncio.ensure_future(place.thinker()._prefill(place.link, question, 1))
    await eventually(lambda: len(place.link.warmed) == 2)
    thinking.cancel()
    await asyncio.gather(thinking, return_exceptions=True)
    assert place.ledger.settle(0).wasted_tokens == BLOCK


async def test_a_prompt_that_was_stopped_goes_on_behind_its_last_slice() -> None:
    place = Place(Bucket(60))
    place.bucket.take(60 - BLOCK, asyncio.get_running_loop().time())
    thinker, question = place.thinker(), Question(_request(TEXT), None)
    thinking = asyncio.ensure_future(thinker._prefill(place.link, question, 1))
    waits = "headstart_live_budget_waits_total"
    await eventually(lambda: place.measured(waits, budget="warm", model="small") == 1)
    thinking.cancel()
    await asyncio.gather(thinking, return_exceptions=True)

    place.bucket.take(-60, asyncio.get_running_loop().time())
    await thinker._prefill(place.link, question, 2)

    assert [end for _, _, end in place.link.warmed] == [4, 8, 12]


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("model", ["small", "poet"])
async def test_what_a_thought_had_computed_that_was_stopped_before_its_first_token(
    model: str, is_held: bool
) -> None:
    """Nobody says how far it came: all that the slices have left counts, if it was asked for."""
    place = Place(Bucket(60), thought=TEXT + "fifteen sixteen ")
    place.link.is_held = is_held
    level = place.bucket.level(asyncio.get_running_loop().time())
    stop = asyncio.Event()
    made = asyncio.ensure_future(place.thinker(model)._made(Think(1, (), 1, 64), stop))
    await eventually(lambda: place.link.served is not None)
    stop.set()

    assert await soon(made) == Failed(1, 0)
    computed = WHOLE if is_held else WHOLE + BLOCK
    assert place.bucket.level(0.0) == pytest.approx(level - computed, abs=BLOCK / 2)
    account = place.ledger.settle(WHOLE + BLOCK)
    assert account.computed_tokens == computed
    assert account.wasted_tokens == (0 if model == "small" else computed)


@pytest.mark.parametrize("is_moved", [False, True])
async def test_what_is_computed_for_a_thought_that_was_stopped_is_not_remembered(
    is_moved: bool,
) -> None:
    place = Place()
    thinker = place.thinker()
    place.link.go_on.clear()
    prefilling = asyncio.ensure_future(
        thinker._prefill(place.link, Question(_request(TEXT), None), 1)
    )
    await eventually(lambda: bool(place.link.warmed))
    before = place.link
    if is_moved:  # nor what another replica has in its cache
        place.link = Link()
        thinker._replica()
    else:
        stop = thinker._stops[1] = asyncio.Event()
        stop.set()
    before.go_on.set()  # before it is cancelled
    await soon(prefilling)
    assert not thinker._known


async def test_a_slice_that_is_computed_when_its_session_ends_counts() -> None:
    place = Place()
    place.link.go_on.clear()
    place.warmer.start()
    await eventually(lambda: len(place.link.warmed) == 1)

    await place.warmer.close()

    assert place.ledger.settle(0).wasted_tokens == BLOCK
    aborted = "headstart_live_aborted_slices_total"
    assert place.measured(aborted, reason="closed") == 1
