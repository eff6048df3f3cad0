"""What speculation has done so far, as running totals that travel from worker to gateway."""

from itertools import zip_longest

import msgspec

from headstart.stages.speculation_labels import Decision, Undrafted

__all__ = ["LanguageCounts", "SourceCounts", "Speculated", "SpeculationCounts"]


class Speculated(msgspec.Struct, frozen=True, array_like=True):
    """What speculation did for one answer."""

    drafted: int = 0
    """Tokens that were drafted and verified."""
    accepted: int = 0
    """Those of them that became part of the answer."""
    steps: int = 0
    """Engine steps that verified a draft."""

    def plus(self, other: "Speculated") -> "Speculated":
        """Return both together."""
        return Speculated(
            self.drafted + other.drafted, self.accepted + other.accepted, self.steps + other.steps
        )


class SourceCounts(msgspec.Struct):
    """Of one kind of proposer."""

    drafts: int = 0
    """Drafts that were verified."""
    drafted: list[int] = []
    """Tokens verified, by position in the draft."""
    accepted: list[int] = []
    """Tokens accepted, by position in the draft."""
    drafts_by_grade: list[int] = []
    """The same drafts by `Draft.grade`; nothing where vLLM's own proposer drafts."""
    accepted_by_grade: list[int] = []
    """The same accepted tokens, by the grade of their draft."""

    def add(self, num_drafted: int, num_accepted: int, grade: int) -> None:
        """Count one verified draft."""
        self.drafts += 1
        _reach(self.drafted, num_drafted)
        _reach(self.accepted, num_drafted)
        for position in range(num_drafted):
            self.drafted[position] += 1
            self.accepted[position] += position < num_accepted
        _reach(self.drafts_by_grade, grade + 1)
        _reach(self.accepted_by_grade, grade + 1)
        self.drafts_by_grade[grade] += 1
        self.accepted_by_grade[grade] += num_accepted

    def accepted_at(self, grade: int) -> int:
        """Return the accepted tokens of drafts of a grade."""
        return sum(self.accepted_by_grade[grade : grade + 1])

    def since(self, before: "SourceCounts") -> "SourceCounts":
        """Return what has come on top of an earlier state of the same totals."""
        return SourceCounts(
            self.drafts - before.drafts,
            _less(self.drafted, before.drafted),
            _less(self.accepted, before.accepted),
            _less(self.drafts_by_grade, before.drafts_by_grade),
            _less(self.accepted_by_grade, before.accepted_by_grade),
        )

    def plus(self, other: "SourceCounts") -> "SourceCounts":
        """Return both together."""
        return SourceCounts(
            self.drafts + other.drafts,
            _more(self.drafted, other.drafted),
            _more(self.accepted, other.accepted),
            _more(self.drafts_by_grade, other.drafts_by_grade),
            _more(self.accepted_by_grade, other.accepted_by_grade),
        )


def _reach(totals: list[int], length: int) -> None:
    totals.extend([0] * (length - len(totals)))


def _less(after: list[int], before: list[int]) -> list[int]:
    return [total - earlier for total, earlier in zip_longest(after, before, fillvalue=0)]


def _more(one: list[int], other: list[int]) -> list[int]:
    return [first + second for first, second in zip_longest(one, other, fillvalue=0)]


class LanguageCounts(msgspec.Struct):
    """Of the requests in one language."""

    rows: int = 0
    """Engine steps that gave a request a token, summed over requests: tokens divided by these are
    tokens per step."""
    tokens: int = 0
    """Tokens that those requests gained."""
    sources: dict[str, SourceCounts] = {}

    def since(self, before: "LanguageCounts") -> "LanguageCounts":
        """Return what has come on top of an earlier state of the same totals."""
        return LanguageCounts(
            self.rows - before.rows,
            self.tokens - before.tokens,
            {
                name: counts.since(before.sources.get(name, SourceCounts()))
                for name, counts in self.sources.items()
            },
        )


class SpeculationCounts(msgspec.Struct):
    """Of one engine, since it started."""

    plain_steps: int = 0
    """Engine steps that computed one token for at least one request, and nothing else."""
    verify_steps: int = 0
    """Those that verified a draft besides."""
    mixed_steps: int = 0
    """Those that computed prompts besides, with drafts or without."""
    draft_s: float = 0.0
    """Spent on proposing, for whole batches."""
    plain_s: float = 0.0
    """Spent in the model and the sampler, in `plain_steps`."""
    verify_s: float = 0.0
    """The same, in `verify_steps`."""
    mixed_s: float = 0.0
    """The same, in `mixed_steps`."""
    languages: dict[str, LanguageCounts] = {}
    fallbacks: dict[str, int] = {}
    decisions: dict[str, int] = {}
    """Steps by what was decided at their end."""

    def step(self, num_drafted: int, seconds: float, num_prompt_tokens: int) -> None:
        """Count an engine step and its time in the model and the sampler."""
        if num_prompt_tokens:
            self.mixed_steps += 1
            self.mixed_s += seconds
        elif num_drafted:
            self.verify_steps += 1
            self.verify_s += seconds
        else:
            self.plain_steps += 1
            self.plain_s += seconds

    def undrafted(self, reason: Undrafted) -> None:
        """Count a request, or one proposer of it, that goes without drafts."""
        self.fallbacks[reason] = self.fallbacks.get(reason, 0) + 1

    def decided(self, decision: Decision) -> None:
        """Count what was decided at a step's end."""
        self.decisions[decision] = self.decisions.get(decision, 0) + 1

    @property
    def steps(self) -> int:
        """Of all kinds."""
        return self.plain_steps + self.verify_steps + self.mixed_steps

    @property
    def rows(self) -> int:
        """Of all languages."""
        return sum(counts.rows for counts in self.languages.values())

    @property
    def tokens(self) -> int:
        """Of all languages."""
        return sum(counts.tokens for counts in self.languages.values())

    @property
    def sources(self) -> dict[str, SourceCounts]:
        """Of all languages."""
        found: dict[str, SourceCounts] = {}
        for counts in self.languages.values():
            for name, source in counts.sources.items():
                found[name] = found.get(name, SourceCounts()).plus(source)
        return found

    def since(self, before: "SpeculationCounts") -> "SpeculationCounts":
        """Return what has come on top of an earlier state of the same totals."""
        return SpeculationCounts(
            plain_steps=self.plain_steps - before.plain_steps,
            verify_steps=self.verify_steps - before.verify_steps,
            mixed_steps=self.mixed_steps - before.mixed_steps,
            draft_s=self.draft_s - before.draft_s,
            plain_s=self.plain_s - before.plain_s,
            verify_s=self.verify_s - before.verify_s,
            mixed_s=self.mixed_s - before.mixed_s,
            languages={
                name: counts.since(before.languages.get(name, LanguageCounts()))
                for name, counts in self.languages.items()
            },
            fallbacks=_come(self.fallbacks, before.fallbacks),
            decisions=_come(self.decisions, before.decisions),
        )


def _come(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {name: count - before.get(name, 0) for name, count in after.items()}
