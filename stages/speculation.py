"""Decides for every request of a batch what to draft next, and learns from what became of it.

The machine between the engine's steps: it is told what a step gave each request and how long it
took, and returns the drafts to verify in the next. It knows neither engine nor clock. If it fails
itself, what is under way goes on without drafts.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from headstart.stages.choosing import Choosing
from headstart.stages.drafting import Source, Verdict
from headstart.stages.index_budget import IndexBudget
from headstart.stages.proposing import Factory, Row
from headstart.stages.speculation_counts import Speculated, SpeculationCounts
from headstart.stages.speculation_labels import NO_LANGUAGE, Decision, Undrafted, counted_as
from headstart.stages.wish import Wish

__all__ = ["RowStep", "Speculation"]

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
        on_fault: Told of the first fault of this machine itself.
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
        on_fault: Callable[[Exception], None] | None = None,
    ) -> None:
        self._factories = factories
        self._automatic = automatic
        self.max_tokens = max_tokens
        self._vocabulary = vocabulary
        self._languages = frozenset(languages)
        self._is_adaptive = is_adaptive
        self._max_slowdown = max_slowdown
        self._indexing = indexing or IndexBudget()
        self._on_fault = on_fault
        self._rows: dict[str, Row] = {}
        self._ended: dict[str, Speculated] = {}
        """The latest that were drafted for."""
        self._has_begun = False
        """Whether a request was taken up since the last step that something may draft for."""
        self.counts = SpeculationCounts()
        self._know_nothing()

    def _know_nothing(self) -> None:
        self._choosing = Choosing(
            self.counts, self._max_slowdown, self._indexing, is_adaptive=self._is_adaptive
        )

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
        try:
            self._begin(request, tokens, wish, reason, room)
        except Exception as error:
            self.counts.undrafted(Undrafted.CONTROLLER)
            self._rows[request] = Row(len(tokens), NO_LANGUAGE, self._choosing.learnt, self.counts)
            self.fail(error)

    def _begin(
        self,
        request: str,
        tokens: Sequence[int],
        wish: Wish,
        reason: Undrafted | None,
        room: int | None,
    ) -> None:
        self._choosing.began()
        language = counted_as(wish.language, self._languages)
        row = Row(len(tokens), language, self._choosing.learnt, self.counts)
        if (before := self._rows.get(request)) is not None:
            row.speculated = before.speculated
        self._rows[request] = row
        if wish.mode == "off" or (room is not None and room < 1):
            return
        if reason is not None:
            self.counts.undrafted(reason)
            return
        kinds = self._automatic if wish.mode == "auto" else (Source(wish.mode),)
        self._add(row, kinds, tokens, wish)
        if wish.mode == Source.DRAFTER and not row.has_proposers:
            self.counts.undrafted(Undrafted.NO_DRAFTER)
            self._add(row, (Source.COPY,), tokens, wish)

    def _add(self, row: Row, sources: Sequence[Source], tokens: Sequence[int], wish: Wish) -> None:
        for source in sources:
            if (factory := self._factories.get(source)) is not None:
                row.add(source, factory, tokens, wish.language)
        self._has_begun = self._has_begun or row.has_proposers

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
        for one in steps:
            self._rows[one.request].num_tokens += len(one.verdict.tokens)
        try:
            return self._step(steps, seconds, num_prompt_tokens)
        except Exception as error:
            self.fail(error)
            return [[] for _ in steps]

    def _step(
        self, steps: Sequence[RowStep], seconds: float, num_prompt_tokens: int
    ) -> list[list[int]]:
        self._indexing.begin_step(seconds)
        if not steps:
            return []
        rows = [self._rows[one.request] for one in steps]
        self._choosing.step(rows, [one.verdict for one in steps], seconds, num_prompt_tokens)
        for row, one in zip(rows, steps, strict=True):
            row.observe(one.verdict, is_broken=one.is_broken)
        if self._choosing.is_resting:
            self.counts.decided(Decision.REST)
            return [[] for _ in steps]
        found = [
            row.offers(min(one.room, self.max_tokens), self._vocabulary)
            for row, one in zip(rows, steps, strict=True)
        ]
        return self._choosing.drafts(rows, found)

    def spent(self, draft_s: float) -> None:
        """Note how long the latest `step` took with all that belongs to it."""
        self.counts.draft_s += draft_s
        try:
            self._choosing.spent(draft_s, has_begun=self._has_begun)
        except Exception as error:
            self.fail(error)
        self._has_begun = False

    def fail(self, error: Exception) -> None:
        """Draft no more for what is under way, and forget what was learnt: either may be wrong.

        Args:
            error: Of this machine, or of what stands between it and the engine.
        """
        self._know_nothing()
        for request, row in self._rows.items():
            if row.has_proposers:
                self.counts.undrafted(Undrafted.CONTROLLER)
            self._rows[request] = row.without_proposers(self._choosing.learnt)
        on_fault, self._on_fault = self._on_fault, None
        if on_fault is not None:
            on_fault(error)
