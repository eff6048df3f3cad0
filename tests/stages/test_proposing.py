"""One request with its proposers: what is learnt of them, and from whom."""

from collections.abc import Mapping, Sequence

import pytest

from headstart.stages.cascade import Offer
from headstart.stages.drafting import Draft, Source, Verdict
from headstart.stages.proposing import Learnt, Row
from headstart.stages.speculation_counts import SourceCounts, Speculated, SpeculationCounts
from headstart.stages.speculation_labels import Undrafted


class Proposer:
    """Offers the same draft for ever, unless there is none."""

    def __init__(self, tokens: Sequence[int], grade: int = 0) -> None:
        self._tokens = tokens
        self._grade = grade

    def observe(self, verdict: Verdict) -> None:
        pass

    def draft(self, max_tokens: int) -> Draft | None:
        return Draft(self._tokens[:max_tokens], self._grade) if self._tokens else None


def row_of(
    drafts: Mapping[Source, Sequence[int] | None],
    language: str = "de",
    learnt: Learnt | None = None,
    counts: SpeculationCounts | None = None,
) -> Row:
    row = Row(10, language, learnt or Learnt(), counts or SpeculationCounts())
    for source, tokens in drafts.items():
        row.add(source, lambda found, _: Proposer(found), tokens or (), None)
    return row


def offer(row: Row) -> Offer:
    (found,) = row.offers(3, vocabulary=9)
    return found


def test_offers_are_those_of_all_who_have_one() -> None:
    drafts = {Source.COPY: [1, 2, 3, 4], Source.JACOBI: None, Source.DRAFTER: [5]}
    row = row_of(drafts)

    found = row.offers(3, vocabulary=9)

    assert [(each.source, list(each.draft.tokens)) for each in found] == [
        (Source.COPY, [1, 2, 3]),
        (Source.DRAFTER, [5]),
    ]
    assert [len(each.survival) for each in found] == [3, 1]
    assert row.offers(0, vocabulary=9) == row.offers(-1, vocabulary=9) == []
    assert Source.JACOBI in row
    assert Source.MODEL not in row


def test_proposer_that_cannot_be_made_is_counted() -> None:
    counts = SpeculationCounts()
    row = row_of({}, counts=counts)

    row.add(Source.COPY, lambda tokens, _: Proposer([tokens[0]]), [], None)

    assert not row.has_proposers
    assert counts.fallbacks == {Undrafted.RAISED: 1}


@pytest.mark.parametrize(
    ("source", "language", "is_learnt"),
    [(Source.COPY, "fr", True), (Source.DRAFTER, "de", True), (Source.DRAFTER, "fr", False)],
)
def test_requests_learn_from_each_other_and_of_a_table_only_in_its_language(
    source: Source, language: str, is_learnt: bool
) -> None:
    learnt = Learnt()
    one = row_of({source: [1]}, learnt=learnt)
    other = row_of({source: [1]}, language, learnt)
    before = offer(other).survival

    for _ in range(20):
        one.drafted(offer(one), 1)
        one.observe(Verdict([2], [1]), is_broken=False)

    assert offer(one).survival[0] < 0.1
    assert (offer(other).survival[0] < before[0] - 0.1) is is_learnt


def test_verdict_on_what_was_not_drafted_here_teaches_nothing() -> None:
    row = row_of({Source.COPY: [1, 2]})
    before = offer(row).survival

    row.observe(Verdict([7], [5, 6]), is_broken=False)
    row.drafted(offer(row), 2)
    row.observe(Verdict([7]), is_broken=False)  # the engine dropped the draft
    row.observe(Verdict([7], [5, 6]), is_broken=False)

    assert offer(row).survival == before
    assert row.speculated == Speculated(drafted=4, accepted=0, steps=2)


def test_accepted_tokens_are_counted_by_the_grade_of_their_draft() -> None:
    counts = SpeculationCounts()
    row = row_of({}, counts=counts)
    row.add(Source.JACOBI, lambda tokens, _: Proposer(tokens, grade=2), [1, 2, 3], None)

    row.drafted(offer(row), 3)
    row.observe(Verdict([1, 2, 7], [1, 2, 3]), is_broken=False)

    found = SourceCounts(1, [1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 2])
    assert counts.sources == {Source.JACOBI: found}
