"""Which of the drafts on offer the next step verifies, and how much of each.

All that is learnt of an engine and its proposers is here, so that it can be forgotten at once.
"""

import math
from collections.abc import Sequence

from headstart.stages.cascade import Offer, best, least_tried
from headstart.stages.draft_length import DraftLengths
from headstart.stages.drafting import Source, Verdict
from headstart.stages.index_budget import IndexBudget
from headstart.stages.probing import PROBE_TOKENS, Probing
from headstart.stages.proposing import Learnt, Row
from headstart.stages.speculation_counts import SpeculationCounts
from headstart.stages.speculation_labels import Decision
from headstart.stages.step_cost import StepCost

__all__ = ["Choosing"]

_HICCUP = 2.0
"""Times its usual time that a step may count as."""


class Choosing:
    """Drafts what gains most for the batch, without slowing a request further than it may be.

    Args:
        counts: Where steps and decisions are counted.
        max_slowdown: By what share of its time a request may fall behind plain decoding so that
            others in its batch are drafted for.
        indexing: Told what it took, as far as that can be told apart.
        is_adaptive: Whether drafts are as long as pays. If not, as long as is offered.
    """

    def __init__(
        self,
        counts: SpeculationCounts,
        max_slowdown: float,
        indexing: IndexBudget,
        *,
        is_adaptive: bool,
    ) -> None:
        self.learnt = Learnt()
        self._indexing = indexing
        self._counts = counts
        self._max_slowdown = max_slowdown
        self._is_adaptive = is_adaptive
        self._cost = StepCost()
        self._lengths = DraftLengths(self._cost)
        self._probing = Probing(self._cost)
        self._probes: dict[Source, int] = {}
        self._draft_s = 0.0
        """What proposing and indexing took for the step that comes in, and no taking up."""
        self._prompts_s = 0.0
        """What the prompts in the latest step took."""
        self._num_asked = 0
        """Requests for which drafts were looked for, and nobody has said yet how long it took."""

    @property
    def is_on(self) -> bool:
        """Whether drafting pays."""
        return self._lengths.is_on

    @property
    def is_resting(self) -> bool:
        """Whether to look for no drafts now."""
        return self._is_adaptive and not self.is_on and self._probing.is_resting

    def began(self) -> None:
        """Note that a request has begun."""
        self._probing.began()

    def step(
        self,
        rows: Sequence[Row],
        verdicts: Sequence[Verdict],
        seconds: float,
        num_prompt_tokens: int,
    ) -> None:
        """Learn what a step took, and whom it left behind.

        Args:
            seconds: For the whole batch, in the model and the sampler.
            num_prompt_tokens: Tokens of prompts that it computed besides.
        """
        num_rows = len(rows)
        num_drafted = sum(len(verdict.drafted) for verdict in verdicts)
        num_tokens = sum(len(verdict.tokens) for verdict in verdicts)
        self._counts.step(num_drafted, seconds, num_prompt_tokens)
        self._cost.observe(num_rows, num_drafted, seconds, num_prompt_tokens)
        self._probing.step(num_rows, num_drafted, num_tokens, seconds)
        plain_s = self._cost.seconds(num_rows)
        taken_s = self._cost.seconds(num_rows, num_drafted)
        self._prompts_s = max(0.0, seconds - taken_s) if num_prompt_tokens else 0.0
        if not num_drafted:
            taken_s += self._draft_s
        elif not num_prompt_tokens:  # what these take is not the drafts' fault, nor is a hiccup
            taken_s = min(seconds + self._draft_s, _HICCUP * taken_s)
        for row, verdict in zip(rows, verdicts, strict=True):
            row.lead.step(len(verdict.tokens), plain_s, taken_s)

    def drafts(self, rows: Sequence[Row], found: Sequence[list[Offer]]) -> list[list[int]]:
        """Return what to verify, a draft or nothing for each row, of what is on offer for it."""
        self._num_asked = len(rows)
        if not any(found):
            self._counts.decided(Decision.NO_DRAFT)
            return [[] for _ in rows]
        price = self._lengths.price(len(rows)) if self._is_adaptive else 0.0
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
        self._counts.decided(decision)
        return [
            row.drafted(offer, length) if offer is not None and length else []
            for row, offer, length in zip(rows, offers, lengths, strict=True)
        ]

    def spent(self, draft_s: float, *, has_begun: bool) -> None:
        """Note how long the latest step took here.

        Args:
            draft_s: With proposing, and all that belongs to it.
            has_begun: Whether requests were taken up to be drafted for: that is done once, whatever
                comes of it, and only what is usual besides counts.
        """
        index_s, look_s = self._indexing.expected_s, 0.0
        num_asked, self._num_asked = self._num_asked, 0
        if num_asked:
            if not has_begun and not index_s:
                self._cost.proposed(num_asked, draft_s)
            usual_s = self._cost.proposing_s(num_asked)
            look_s = min(usual_s, max(0.0, draft_s - index_s))
            if not has_begun and usual_s < math.inf:
                self._indexing.took(draft_s - usual_s)
            if not self.is_on:
                self._probing.looked(look_s)
        if has_begun:
            draft_s = min(draft_s, look_s + index_s)
        # A lead is of decoding alone. What is indexed behind prompts is a share of their time.
        free_s = min(index_s, self._indexing.share * self._prompts_s)
        self._draft_s = max(0.0, draft_s - free_s)

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
