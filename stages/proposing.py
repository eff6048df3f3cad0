"""A request with its proposers: what they offer, how right each has been, and who has failed.

A proposer that fails is dropped for its request and counted; the answer does not depend on it.
"""

from collections.abc import Callable, Sequence

from headstart.stages.cascade import Offer
from headstart.stages.draft_length import Acceptance
from headstart.stages.drafting import Draft, Proposer, Source, Verdict
from headstart.stages.lead import Lead
from headstart.stages.speculation_counts import (
    LanguageCounts,
    SourceCounts,
    Speculated,
    SpeculationCounts,
)
from headstart.stages.speculation_labels import Undrafted

__all__ = ["Factory", "Learnt", "Row"]

_MEMORY, _BELIEF = 24.0, 4.0
"""Of what is learnt about one request, against what is known of all."""

Factory = Callable[[Sequence[int], str | None], Proposer | None]
"""Makes the proposer of one request from its tokens and language; None where it has none."""


class Learnt:
    """How often drafts were right, over all requests that learn from each other."""

    def __init__(self) -> None:
        self._known: dict[tuple[Source, int, str], Acceptance] = {}

    def of(self, source: Source, grade: int, language: str) -> Acceptance:
        """Return what is known of a kind of draft; a language's table is a kind of its own."""
        key = source, grade, language if source is Source.DRAFTER else ""
        if (known := self._known.get(key)) is None:
            known = self._known[key] = Acceptance()
        return known


class Row:
    """A request of the batch.

    Args:
        num_tokens: Of prompt and answer so far.
        language: That it is counted under.
        learnt: Of all requests.
        counts: Of all requests.
    """

    def __init__(
        self, num_tokens: int, language: str, learnt: Learnt, counts: SpeculationCounts
    ) -> None:
        self.num_tokens = num_tokens
        self.lead = Lead()
        self.num_probes = 0
        self.speculated = Speculated()
        self._language = language
        self._of_all = learnt
        self._counts = counts
        self._proposers: dict[Source, Proposer] = {}
        self._acceptance: dict[tuple[Source, int], Acceptance] = {}
        self._pending: Offer | None = None
        """The draft that the next step shall verify."""

    def __contains__(self, source: Source) -> bool:
        return source in self._proposers

    @property
    def has_proposers(self) -> bool:
        """Whether any is left."""
        return bool(self._proposers)

    def without_proposers(self, learnt: Learnt) -> "Row":
        """Return the same request as if nothing had been drafted for it yet, nor will be."""
        row = Row(self.num_tokens, self._language, learnt, self._counts)
        row.speculated = self.speculated
        return row

    def add(
        self, source: Source, factory: Factory, tokens: Sequence[int], language: str | None
    ) -> None:
        """Give it a proposer, if there is one for it.

        Args:
            tokens: Prompt and answer so far.
            language: Of the input.
        """
        try:
            proposer = factory(tokens, language)
        except Exception:  # whatever a proposer does, the answer goes on
            self._counts.undrafted(Undrafted.RAISED)
            return
        if proposer is not None:
            self._proposers[source] = proposer

    def observe(self, verdict: Verdict, *, is_broken: bool) -> None:
        """Take what a step has made of the request.

        Args:
            is_broken: Whether the model's logits were NaN: nothing is drafted any more.
        """
        counts = self._counts.languages.setdefault(self._language, LanguageCounts())
        counts.rows += 1
        counts.tokens += len(verdict.tokens)
        if is_broken and self._proposers:
            self._proposers.clear()
            self._counts.undrafted(Undrafted.NOT_A_NUMBER)
        drafted, accepted = len(verdict.drafted), verdict.num_accepted
        pending, self._pending = self._pending, None
        if drafted:
            self.speculated = self.speculated.plus(Speculated(drafted, accepted, 1))
        if pending is not None and drafted:
            source, grade = pending.source, pending.draft.grade
            self._learned(source, grade).observe(drafted, accepted)
            self._of_all.of(source, grade, self._language).observe(drafted, accepted)
            counts.sources.setdefault(source, SourceCounts()).add(drafted, accepted, grade)
        for source, proposer in tuple(self._proposers.items()):
            try:
                proposer.observe(verdict)
            except Exception:  # as above
                self._drop(source, Undrafted.RAISED)

    def offers(self, room: int, vocabulary: int) -> list[Offer]:
        """Ask all proposers for a draft.

        Args:
            room: Most tokens of it.
            vocabulary: Ids below this exist.
        """
        found: list[Offer] = []
        if room < 1:
            return found
        for source, proposer in tuple(self._proposers.items()):
            try:
                draft = proposer.draft(room)
                fault = None if draft is None else _fault(draft, room, vocabulary)
            except Exception:  # as above
                draft, fault = None, Undrafted.RAISED
            if fault is not None:
                self._drop(source, fault)
            elif draft is not None and draft.tokens:
                chances = self._learned(source, draft.grade).survival(len(draft.tokens))
                found.append(Offer(source, draft, chances))
        return found

    def drafted(self, offer: Offer, length: int) -> list[int]:
        """Return the first tokens of a draft, which the next step shall verify."""
        self._pending = offer
        return list(offer.draft.tokens[:length])

    def _learned(self, source: Source, grade: int) -> Acceptance:
        key = source, grade
        if (known := self._acceptance.get(key)) is None:
            of_all = self._of_all.of(source, grade, self._language)
            known = self._acceptance[key] = Acceptance(of_all, _MEMORY, _BELIEF)
        return known

    def _drop(self, source: Source, reason: Undrafted) -> None:
        del self._proposers[source]
        self._counts.undrafted(reason)


def _fault(draft: Draft, room: int, vocabulary: int) -> Undrafted | None:
    if len(draft.tokens) > room:
        return Undrafted.TOO_MANY
    if not all(0 <= token < vocabulary for token in draft.tokens):
        return Undrafted.OUT_OF_VOCABULARY
    return None
