"""Decides for every request of a batch what to draft next, and learns from what became of it.

The machine between the engine's steps: it is told what a step gave each request and how long it
took, and returns the drafts to verify in the next. It knows neither engine nor clock. A proposer
that fails is dropped for its request and counted; the answer does not depend on it.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headstart.stages.cascade import Offer, best, least_tried
from headstart.stages.draft_length import Acceptance, DraftLengths
from headstart.stages.drafting import Draft, Proposer, Source, Verdict
from headstart.stages.index_budget import IndexBudget
from headstart.stages.speculation_counts import (
    Decision,
    LanguageCounts,
    SourceCounts,
    Speculated,
    SpeculationCounts,
    Undrafted,
    counted_as,
)
from headstart.stages.step_cost import StepCost

__all__ = [
    "LANGUAGE_ARGUMENT",
    "SPECULATION_ARGUMENT",
    "Factory",
    "RowStep",
    "Speculation",
    "Wish",
]

SPECULATION_ARGUMENT = "headstart_speculation"
LANGUAGE_ARGUMENT = "headstart_language"
"""Names under which a request's wishes travel through the engine."""

_MEMORY, _BELIEF = 24.0, 4.0
"""Of what is learnt about one request, against what is known of all."""
_PROBE_TOKENS = 1
_PROBE_COST = 1.05
"""Of a step that probes one row, what one may take that probes more."""
_PROBE_FIRST, _PROBE_LAST = 8, 64
"""Steps without a draft after which one is tried; doubled until drafting pays again."""
_LOOK_SHARE = 0.01
"""Of the time of steps without drafts that may be spent on looking whether there is one."""
_HICCUP = 2.0
"""Times its usual time that a step may count as."""
_REMEMBERED = 1024
"""Ended requests of which it is known what was drafted for them."""
_SLOWED_TOKENS = 32
"""A request may be slowed as if its answer had at least so many tokens."""

_MODES = ("off", "auto", *(source for source in Source if source is not Source.MODEL))

Factory = Callable[[Sequence[int], str | None], Proposer | None]
"""Makes the proposer of one request from its tokens and language; None where it has none."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request asks for: a mode (`off`, `auto` or a source) and the input's language."""

    mode: str
    language: str | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any] | None, default: str) -> "Wish":
        """Read the wish of a request from its extra arguments; what is no mode is the default."""
        arguments = arguments or {}
        mode, language = arguments.get(SPECULATION_ARGUMENT), arguments.get(LANGUAGE_ARGUMENT)
        if not (isinstance(mode, str) and mode in _MODES):
            mode = default
        return cls(mode, language if isinstance(language, str) else None)


@dataclass(frozen=True, slots=True)
class RowStep:
    """What a step gave one request."""

    request: str
    verdict: Verdict
    room: int
    """Most tokens that may be drafted now, so that limits on the answer are kept."""
    is_broken: bool = False
    """Whether the model's logits were NaN."""


@dataclass(slots=True)
class _Row:
    num_tokens: int
    language: str
    """That it is counted under."""
    proposers: dict[Source, Proposer] = field(default_factory=dict)
    acceptance: dict[tuple[Source, int], Acceptance] = field(default_factory=dict)
    pending: tuple[Source, Draft] | None = None
    """The draft that the next step shall verify."""
    num_answered: int = 0
    """Tokens of the answer since it was taken up."""
    lead_s: float = 0.0
    """By how much the answer is ahead of plain decoding in the same company."""
    num_probes: int = 0
    speculated: Speculated = field(default_factory=Speculated)


def _learned_as(row: _Row, source: Source, grade: int) -> tuple[Source, int, str]:
    """What requests have in common that learn from each other: a language's table is its own."""
    return source, grade, row.language if source is Source.DRAFTER else ""


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
        self._rows: dict[str, _Row] = {}
        self._ended: dict[str, Speculated] = {}
        """The latest that were drafted for."""
        self._cost = StepCost()
        self._lengths = DraftLengths(self._cost)
        self._acceptance: dict[tuple[Source, int, str], Acceptance] = {}
        self._probe_in = self._probe_every = _PROBE_FIRST
        self._probes: dict[Source, int] = {}
        self._draft_s = 0.0
        """What proposing for the step that comes in took, taking up and indexing requests aside."""
        self._num_asked = 0
        """Requests in the latest step if it was looked for drafts, else none."""
        self._has_begun = False
        self._look_debt_s = 0.0
        """Spent on looking in vain, and not yet a share of the time since."""
        self.counts = SpeculationCounts()

    def num_tokens(self, request: str) -> int | None:
        """Return how many tokens of a request are known here; None if it was not begun."""
        row = self._rows.get(request)
        return None if row is None else row.num_tokens

    def wants_predictions(self, request: str) -> bool:
        """Whether anybody looks at the model's predictions for this request."""
        row = self._rows.get(request)
        return row is not None and Source.JACOBI in row.proposers

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
        self._probe_in = min(self._probe_in, _PROBE_FIRST)
        self._has_begun = True
        language = counted_as(wish.language, self._languages)
        row = _Row(len(tokens), language)
        if (before := self._rows.get(request)) is not None:
            row.speculated = before.speculated
        self._rows[request] = row
        if wish.mode == "off" or (room is not None and room < 1):
            return
        if reason is not None:
            self._count(reason)
            return
        for source in self._automatic if wish.mode == "auto" else (Source(wish.mode),):
            self._add(row, source, tokens, wish.language)
        if wish.mode == Source.DRAFTER and not row.proposers:
            self._count(Undrafted.NO_DRAFTER)
            self._add(row, Source.COPY, tokens, wish.language)

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
        self._learn(steps, seconds, num_prompt_tokens)
        for one in steps:
            self._observe(one)
        return self._drafts(steps)

    def spent(self, draft_s: float) -> None:
        """Note how long the latest `step` took with all that belongs to it."""
        self.counts.draft_s += draft_s
        # For once, and whether it is drafted or not.
        if self._has_begun or self._indexing.is_in_use:
            self._has_begun, self._draft_s = False, 0.0
            return
        self._draft_s = draft_s
        if self._num_asked:
            self._cost.proposed(self._num_asked, draft_s)
            if not self._lengths.is_on:
                self._look_debt_s += draft_s

    def _learn(self, steps: Sequence[RowStep], seconds: float, num_prompt_tokens: int) -> None:
        num_rows = len(steps)
        num_drafted = sum(len(one.verdict.drafted) for one in steps)
        self._count_step(num_drafted, seconds, num_prompt_tokens)
        draft_s = self._draft_s
        self._look_debt_s = max(0.0, self._look_debt_s - _LOOK_SHARE * seconds)
        self._cost.observe(num_rows, num_drafted, seconds, num_prompt_tokens)
        plain_s = self._cost.seconds(num_rows)
        taken_s = self._cost.seconds(num_rows, num_drafted)
        if not num_drafted:
            taken_s += draft_s
        elif not num_prompt_tokens:  # what these take is not the drafts' fault, nor is a hiccup
            taken_s = min(seconds + draft_s, _HICCUP * taken_s)
        for one in steps:
            self._rows[one.request].lead_s += len(one.verdict.tokens) * plain_s - taken_s

    def _count_step(self, num_drafted: int, seconds: float, num_prompt_tokens: int) -> None:
        counts = self.counts
        if num_prompt_tokens:
            counts.mixed_steps += 1
            counts.mixed_s += seconds
        elif num_drafted:
            counts.verify_steps += 1
            counts.verify_s += seconds
        else:
            counts.plain_steps += 1
            counts.plain_s += seconds

    def _observe(self, one: RowStep) -> None:
        row = self._rows[one.request]
        row.num_tokens += len(one.verdict.tokens)
        row.num_answered += len(one.verdict.tokens)
        counts = self.counts.languages.setdefault(row.language, LanguageCounts())
        counts.rows += 1
        counts.tokens += len(one.verdict.tokens)
        pending, row.pending = row.pending, None
        if one.is_broken and row.proposers:
            self._drop(row, tuple(row.proposers), Undrafted.NOT_A_NUMBER)
        drafted, accepted = len(one.verdict.drafted), one.verdict.num_accepted
        if drafted:
            row.speculated = row.speculated.plus(Speculated(drafted, accepted, 1))
        if pending is not None and drafted:
            source, draft = pending
            self._learned(row, source, draft.grade).observe(drafted, accepted)
            self._acceptance[_learned_as(row, source, draft.grade)].observe(drafted, accepted)
            counts.sources.setdefault(source, SourceCounts()).add(drafted, accepted)
        for source, proposer in tuple(row.proposers.items()):
            try:
                proposer.observe(one.verdict)
            except Exception:  # whatever a proposer does, the answer goes on
                self._drop(row, (source,), Undrafted.RAISED)

    def _drafts(self, steps: Sequence[RowStep]) -> list[list[int]]:
        drafts: list[list[int]] = [[] for _ in steps]
        if self._is_adaptive and self._look_debt_s and not self._lengths.is_on:
            self._decided(Decision.REST)
            return drafts
        self._num_asked = len(steps)
        found = [self._offers(one) for one in steps]
        if not any(found):
            self._decided(Decision.NO_DRAFT)
            return drafts
        rows = [self._rows[one.request] for one in steps]
        price = self._lengths.price(len(steps))
        offers = [best(each, price) for each in found]
        survivals = [offer.survival if offer is not None else [] for offer in offers]
        lengths, decision = [len(survival) for survival in survivals], Decision.DRAFT
        if self._is_adaptive:
            slack_s = self._slack_s(rows)
            lengths = self._lengths.choose(survivals, slack_s)
            if any(lengths):
                self._probe_every = self._probe_in = _PROBE_FIRST
            elif self._is_probe_due() and self._can_afford_probe(slack_s):
                self._probe(rows, found, offers, lengths)
                decision = Decision.PROBE
            else:
                decision = Decision.MEASURE if self._lengths.is_in_doubt else Decision.NO_GAIN
        self._decided(decision)
        for index, (row, offer, length) in enumerate(zip(rows, offers, lengths, strict=True)):
            if offer is not None and length:
                drafts[index] = list(offer.draft.tokens[:length])
                row.pending = offer.source, offer.draft
        return drafts

    def _decided(self, decision: Decision) -> None:
        self.counts.decisions[decision] = self.counts.decisions.get(decision, 0) + 1

    def _slack_s(self, rows: list[_Row]) -> list[float]:
        """Return by how much each row may fall behind in the next step."""
        most_s = self._max_slowdown * self._cost.seconds(len(rows))
        return [row.lead_s + most_s * max(row.num_answered, _SLOWED_TOKENS) for row in rows]

    def _probe(
        self,
        rows: list[_Row],
        found: list[list[Offer]],
        offers: list[Offer | None],
        lengths: list[int],
    ) -> None:
        """Draft for one row, and for as many more as hardly add to what the step takes."""
        offered = [index for index, each in enumerate(found) if each]
        offered.sort(key=lambda index: rows[index].num_probes)
        step_s = self._cost.by_drafted(len(rows))
        most_s = _PROBE_COST * step_s(_PROBE_TOKENS)
        for count, probed in enumerate(offered, start=1):
            if count > 1 and step_s(count * _PROBE_TOKENS) > most_s:
                break
            rows[probed].num_probes += 1
            offer = offers[probed] = least_tried(found[probed], self._probes)
            self._probes[offer.source] = self._probes.get(offer.source, 0) + 1
            lengths[probed] = _PROBE_TOKENS

    def _can_afford_probe(self, slack_s: list[float]) -> bool:
        num_rows = len(slack_s)
        more_s = self._cost.seconds(num_rows, _PROBE_TOKENS) - self._cost.seconds(num_rows)
        return more_s <= min(slack_s)

    def _is_probe_due(self) -> bool:
        """Whether to draft although it is not expected to pay: things change."""
        self._probe_in -= 1
        if self._probe_in > 0:
            return False
        self._probe_every = self._probe_in = min(2 * self._probe_every, _PROBE_LAST)
        return True

    def _offers(self, one: RowStep) -> list[Offer]:
        row = self._rows[one.request]
        room = min(one.room, self._max_tokens)
        if room < 1:
            return []
        found: list[Offer] = []
        for source, proposer in tuple(row.proposers.items()):
            try:
                draft = proposer.draft(room)
                fault = None if draft is None else self._fault(draft, room)
            except Exception:  # as above
                draft, fault = None, Undrafted.RAISED
            if fault is not None:
                self._drop(row, (source,), fault)
            elif draft is not None and draft.tokens:
                chances = self._learned(row, source, draft.grade).survival(len(draft.tokens))
                found.append(Offer(source, draft, chances))
        return found

    def _fault(self, draft: Draft, room: int) -> Undrafted | None:
        if len(draft.tokens) > room:
            return Undrafted.TOO_MANY
        if not all(0 <= token < self._vocabulary for token in draft.tokens):
            return Undrafted.OUT_OF_VOCABULARY
        return None

    def _learned(self, row: _Row, source: Source, grade: int) -> Acceptance:
        key = source, grade
        if (known := row.acceptance.get(key)) is None:
            of_all = self._acceptance.setdefault(_learned_as(row, source, grade), Acceptance())
            known = row.acceptance[key] = Acceptance(of_all, _MEMORY, _BELIEF)
        return known

    def _add(self, row: _Row, source: Source, tokens: Sequence[int], language: str | None) -> None:
        factory = self._factories.get(source)
        try:
            proposer = None if factory is None else factory(tokens, language)
        except Exception:  # as above
            self._count(Undrafted.RAISED)
            return
        if proposer is not None:
            row.proposers[source] = proposer

    def _drop(self, row: _Row, sources: Sequence[Source], reason: Undrafted) -> None:
        for source in sources:
            del row.proposers[source]
        self._count(reason)

    def _count(self, reason: Undrafted) -> None:
        self.counts.fallbacks[reason] = self.counts.fallbacks.get(reason, 0) + 1
