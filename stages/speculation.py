"""Decides for every request of a batch what to draft next, and learns from what became of it.

The machine between the engine's steps: it is told what a step gave each request and how long it
took, and returns the drafts to verify in the next. It knows neither engine nor clock.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from headstart.stages.cascade import Offer, best, least_tried
from headstart.stages.draft_length import DraftLengths
from headstart.stages.drafting import Source, Verdict
from headstart.stages.index_budget import IndexBudget
from headstart.stages.probing import PROBE_TOKENS, Probing
from headstart.stages.proposing import Factory, Learnt, Row
from headstart.stages.speculation_counts import (
    Decision,
    Speculated,
    SpeculationCounts,
    Undrafted,
    counted_as,
)
from headstart.stages.step_cost import StepCost
from headstart.stages.wish import Wish

__all__ = ["RowStep", "Speculation"]

_HICCUP = 2.0
"""Times its usual time that a step may count as."""
_REMEMBERED = 1024
"""Ended requests of which it is known what was drafted for them."""


@dataclass(frozen=True, slots=True)
class RowStep:
    """What a step gave one request."""

    request: str
    verdict: Verdict
    room: int
    """Most tokens that may be drafted now, so that limits on the answer are kept."""
    is_broken: bool = False
    """Whether the model's logits were NaN."""


class Speculation:
    """Proposers of all requests of one engine.

    Args:
        factories: What makes proposers, by kind; in order of preference.
        automatic: The kinds that `auto` uses.
        max_tokens: Most tokens in a draft.
        vocabulary: Ids below this exist.
        languages: Those that are counted one by one.
        is_adaptive: Whether drafts are as long as pays. If not, as long as is offered.
        max_slowdown: By what share of its time a request may fall behind plain decoding so that
            others in its batch are drafted for.
        indexing: Budget of the proposers that index what was said.
    """

    def __init__(
        self,
        factories: Mapping[Source, Factory],
        automatic: Sequence[Source],
        *,
        max_tokens: int,
        vocabulary: int,
        languages: Collection[str] = (),
        is_adaptive: bool = True,
        max_slowdown: float = 0.03,
        indexing: IndexBudget | None = None,
    ) -> None:
        self._factories = factories
        self._automatic = automatic
        self._max_tokens = max_tokens
        self._vocabulary = vocabulary
        self._languages = frozenset(languages)
        self._is_adaptive = is_adaptive
        self._max_slowdown = max_slowdown
        self._indexing = indexing or IndexBudget()
        self._rows: dict[str, Row] = {}
        self._ended: dict[str, Speculated] = {}
        """The latest that were drafted for."""
        self._cost = StepCost()
        self._lengths = DraftLengths(self._cost)
        self._probing = Probing(self._cost)
        self._learnt = Learnt()
        self._probes: dict[Source, int] = {}
        self._draft_s = 0.0
        """What proposing for the step that comes in took, taking up and indexing requests aside."""
        self._num_asked = 0
        """Requests in the latest step if it was looked for drafts, else none."""
        self._has_begun = False
        self.counts = SpeculationCounts()

    def num_tokens(self, request: str) -> int | None:
        """Return how many tokens of a request are known here; None if it was not begun."""
        row = self._rows.get(request)
        return None if row is None else row.num_tokens

    def wants_predictions(self, request: str) -> bool:
        """Whether anybody looks at the model's predictions for this request."""
        row = self._rows.get(request)
        return row is not None and Source.JACOBI in row

    def begin(
        self,
        request: str,
        tokens: Sequence[int],
        wish: Wish,
        reason: Undrafted | None = None,
        room: int | None = None,
    ) -> None:
        """Take up a request, or take it up anew where its tokens have changed.

        Args:
            tokens: Prompt and answer so far.
            reason: Why it must go without drafts.
            room: Most tokens that may ever be drafted at once; None is any number.
        """
        self._probing.began()
        self._has_begun = True
        language = counted_as(wish.language, self._languages)
        row = Row(len(tokens), language, self._learnt, self.counts)
        if (before := self._rows.get(request)) is not None:
            row.speculated = before.speculated
        self._rows[request] = row
        if wish.mode == "off" or (room is not None and room < 1):
            return
        if reason is not None:
            self.counts.undrafted(reason)
            return
        self._add(
            row, self._automatic if wish.mode == "auto" else (Source(wish.mode),), tokens, wish
        )
        if wish.mode == Source.DRAFTER and not row.has_proposers:
            self.counts.undrafted(Undrafted.NO_DRAFTER)
            self._add(row, (Source.COPY,), tokens, wish)

    def _add(self, row: Row, sources: Sequence[Source], tokens: Sequence[int], wish: Wish) -> None:
        for source in sources:
            if (factory := self._factories.get(source)) is not None:
                row.add(source, factory, tokens, wish.language)

    def end(self, request: str) -> None:
        """Forget a request, but for what was drafted for it. Unknown ones are ignored."""
        row = self._rows.pop(request, None)
        if row is not None and row.speculated.steps:
            self._ended[request] = row.speculated
            if len(self._ended) > _REMEMBERED:
                del self._ended[next(iter(self._ended))]

    def drafted_for(self, request: str) -> Speculated:
        """Return what speculation did for a request that is under way, or has ended lately."""
        row = self._rows.get(request)
        return self._ended.get(request, Speculated()) if row is None else row.speculated

    def step(
        self, steps: Sequence[RowStep], *, seconds: float, num_prompt_tokens: int = 0
    ) -> list[list[int]]:
        """Take a step, and return what to verify in the next: a draft, or nothing, for each row.

        Args:
            steps: The rows that gained a token; all have been begun.
            seconds: How long the model and the sampler took, for the whole batch.
            num_prompt_tokens: Tokens of prompts that the step computed besides.
        """
        self._num_asked = 0
        self._indexing.begin_step()
        if not steps:
            return []
        rows = [self._rows[one.request] for one in steps]
        self._learn(rows, steps, seconds, num_prompt_tokens)
        for row, one in zip(rows, steps, strict=True):
            row.num_tokens += len(one.verdict.tokens)
            row.observe(one.verdict, is_broken=one.is_broken)
        if self._is_adaptive and self._probing.is_resting and not self._lengths.is_on:
            self.counts.decided(Decision.REST)
            return [[] for _ in steps]
        self._num_asked = len(steps)
        found = [
            row.offers(min(one.room, self._max_tokens), self._vocabulary)
            for row, one in zip(rows, steps, strict=True)
        ]
        return self._drafts(rows, found)

    def spent(self, draft_s: float) -> None:
        """Note how long the latest `step` took with all that belongs to it."""
        self.counts.draft_s += draft_s
        is_usual = not self._has_begun and not self._indexing.is_in_use
        self._has_begun = False
        # The rest is taken for once, and whether it is drafted or not.
        self._draft_s = draft_s if is_usual else 0.0
        if not self._num_asked:
            return
        if is_usual:
            self._cost.proposed(self._num_asked, draft_s)
        if not self._lengths.is_on:
            self._probing.looked(min(draft_s, self._cost.proposing_s(self._num_asked)))

    def _learn(
        self, rows: Sequence[Row], steps: Sequence[RowStep], seconds: float, num_prompt_tokens: int
    ) -> None:
        num_rows = len(steps)
        num_drafted = sum(len(one.verdict.drafted) for one in steps)
        self.counts.step(num_drafted, seconds, num_prompt_tokens)
        draft_s = self._draft_s
        self._cost.observe(num_rows, num_drafted, seconds, num_prompt_tokens)
        num_tokens = sum(len(one.verdict.tokens) for one in steps)
        self._probing.step(num_rows, num_drafted, num_tokens, seconds)
        plain_s = self._cost.seconds(num_rows)
        taken_s = self._cost.seconds(num_rows, num_drafted)
        if not num_drafted:
            taken_s += draft_s
        elif not num_prompt_tokens:  # what these take is not the drafts' fault, nor is a hiccup
            taken_s = min(seconds + draft_s, _HICCUP * taken_s)
        for row, one in zip(rows, steps, strict=True):
            row.lead.step(len(one.verdict.tokens), plain_s, taken_s)

    def _drafts(self, rows: Sequence[Row], found: Sequence[list[Offer]]) -> list[list[int]]:
        """Choose among what is on offer for each row."""
        if not any(found):
            self.counts.decided(Decision.NO_DRAFT)
            return [[] for _ in rows]
        price = self._lengths.price(len(rows))
        offers = [best(each, price) for each in found]
        survivals = [offer.survival if offer is not None else [] for offer in offers]
        lengths, decision = [len(survival) for survival in survivals], Decision.DRAFT
        if self._is_adaptive:
            plain_s = self._cost.seconds(len(rows))
            slack_s = [row.lead.slack_s(plain_s, self._max_slowdown) for row in rows]
            lengths = self._lengths.choose(survivals, slack_s)
            if any(lengths):
                self._probing.paid()
            elif self._probing.is_due(slack_s):
                self._probe(rows, found, offers, lengths)
                decision = Decision.PROBE
            else:
                decision = Decision.MEASURE if self._lengths.is_in_doubt else Decision.NO_GAIN
        self.counts.decided(decision)
        return [
            row.drafted(offer, length) if offer is not None and length else []
            for row, offer, length in zip(rows, offers, lengths, strict=True)
        ]

    def _probe(
        self,
        rows: Sequence[Row],
        found: Sequence[list[Offer]],
        offers: list[Offer | None],
        lengths: list[int],
    ) -> None:
        """Draft for those rows that this was done for least, and by whom was tried least."""
        offered = [index for index, each in enumerate(found) if each]
        offered.sort(key=lambda index: rows[index].num_probes)
        for index in offered[: self._probing.num_rows(len(offered), len(rows))]:
            rows[index].num_probes += 1
            offer = offers[index] = least_tried(found[index], self._probes)
            self._probes[offer.source] = self._probes.get(offer.source, 0) + 1
            lengths[index] = PROBE_TOKENS
