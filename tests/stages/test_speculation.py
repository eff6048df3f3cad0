"""The machine as a whole: random schedules, faulty proposers, wishes, counts."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from headstart.stages.copy_drafter import CopyDrafter
from headstart.stages.drafting import Draft, Proposer, Source, Verdict
from headstart.stages.jacobi import JacobiBlock
from headstart.stages.speculation import RowStep, Speculation
from headstart.stages.speculation_counts import Speculated
from headstart.stages.speculation_labels import Undrafted
from headstart.stages.wish import Wish

VOCABULARY = 12
MAX_TOKENS = 6


def following(tokens: Sequence[int]) -> int:
    """The reference decoder: a fixed function of the last tokens, which repeats itself."""
    return (7 * tokens[-1] + 3 * tokens[-2] + len(tokens) // 40) % VOCABULARY


class Faulty:
    """Fails in one way, after a while."""

    def __init__(self, way: str, patience: int) -> None:
        self._way = way
        self._patience = patience

    def observe(self, verdict: Verdict) -> None:
        self._patience -= 1
        if self._patience < 0 and self._way == "observe":
            raise RuntimeError("cannot observe")

    def draft(self, max_tokens: int) -> Draft | None:
        if self._patience >= 0:
            return Draft([0])
        if self._way == "draft":
            raise ZeroDivisionError
        return Draft([VOCABULARY] if self._way == "vocabulary" else [0] * (max_tokens + 1))


def speculation(**options: Any) -> Speculation:
    def copying(tokens: Sequence[int], _: str | None) -> Proposer:
        return CopyDrafter(tokens)

    def blocks(tokens: Sequence[int], _: str | None) -> Proposer:
        return JacobiBlock(tokens, 5)

    def faulty(_: Sequence[int], language: str | None) -> Proposer | None:
        return Faulty(language, 3) if language else None

    return Speculation(
        {Source.COPY: copying, Source.JACOBI: blocks, Source.DRAFTER: faulty},
        tuple(Source),
        max_tokens=MAX_TOKENS,
        vocabulary=VOCABULARY,
        **options,
    )


class Row:
    """A request in the engine: its tokens, and the draft that waits for verification."""

    def __init__(self, prompt: list[int], limit: int) -> None:
        self.tokens = list(prompt)
        self.num_prompt = len(prompt)
        self.limit = limit
        self.draft: list[int] = []

    @property
    def room(self) -> int:
        return self.limit - (len(self.tokens) - self.num_prompt)

    def verify(self, keep: int) -> Verdict:
        drafted = self.draft[:keep]
        predictions = [
            following([*self.tokens, *drafted[:count]]) for count in range(len(drafted) + 1)
        ]
        right = 0
        while right < len(drafted) and drafted[right] == predictions[right]:
            right += 1
        self.draft = []
        self.tokens += predictions[: right + 1]
        return Verdict(predictions[: right + 1], drafted, predictions)


def drafts_at(drafted_s: float) -> list[list[int]]:
    """What one request is drafted, drafts being taken as they are, at a price for each token."""
    machine = speculation(is_adaptive=False)
    row = Row([3, 1, 4, 1, 5, 9, 2, 6], 200)
    machine.begin("a", row.tokens, Wish("auto"))
    found = []
    while row.room > 0:
        seconds = 0.02 + drafted_s * len(row.draft)
        step = RowStep("a", row.verify(MAX_TOKENS), row.room - 1)
        row.draft = machine.step([step], seconds=seconds)[0]
        found.append(row.draft)
    return found


def test_drafts_that_are_taken_as_they_are_do_not_depend_on_what_they_cost() -> None:
    found = drafts_at(0.0)

    assert found == drafts_at(0.1)
    assert sum(map(len, found)) > 100


@pytest.mark.parametrize("is_adaptive", [True, False])
def test_random_schedules_give_the_reference_decoder(is_adaptive: bool) -> None:
    """10,000 steps of arrivals, aborts, preemptions, cut drafts and faults."""
    chance = random.Random(7)
    machine = speculation(is_adaptive=is_adaptive)
    rows: dict[str, Row] = {}
    finished = accepted = 0
    for step in range(10_000):
        if len(rows) < 8 and chance.random() < 0.3:
            prompt = [chance.randrange(VOCABULARY) for _ in range(chance.randint(2, 30))]
            name = f"{step}"
            rows[name] = Row(prompt, chance.randint(1, 60))
            mode = chance.choice(["auto", "copy", "jacobi", "drafter", "off"])
            fault = chance.choice([None, "observe", "draft", "vocabulary", "many"])
            machine.begin(name, prompt, Wish(mode, fault))
        if rows and chance.random() < 0.02:  # an abort
            name = chance.choice(list(rows))
            machine.end(name)
            del rows[name]
        names = [name for name in rows if chance.random() < 0.9]  # the rest is preempted
        chance.shuffle(names)
        for name in rows.keys() - set(names):
            rows[name].draft = []
        steps = []
        for name in names:
            row = rows[name]
            cut = chance.randint(0, MAX_TOKENS) if chance.random() < 0.1 else MAX_TOKENS
            verdict = row.verify(cut)
            accepted += verdict.num_accepted
            steps.append(RowStep(name, verdict, row.room - 1, chance.random() < 0.002))
        for name, draft in zip(
            names, machine.step(steps, seconds=0.02 + 0.001 * len(steps)), strict=True
        ):
            row = rows[name]
            assert len(draft) <= max(0, min(row.room - 1, MAX_TOKENS))
            assert all(0 <= token < VOCABULARY for token in draft)
            row.draft = draft
            assert machine.num_tokens(name) == len(row.tokens)
            if row.room <= 0:
                assert row.room == 0
                expected = row.tokens[: row.num_prompt]
                while len(expected) < len(row.tokens):
                    expected.append(following(expected))
                assert row.tokens == expected
                finished += 1
                machine.end(name)
                del rows[name]

    assert finished > 300
    assert accepted > 1000
    assert set(machine.counts.fallbacks) >= {
        Undrafted.RAISED,
        Undrafted.OUT_OF_VOCABULARY,
        Undrafted.TOO_MANY,
        Undrafted.NOT_A_NUMBER,
        Undrafted.NO_DRAFTER,
    }
    assert not machine._rows.keys() - rows.keys()


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("observe", Undrafted.RAISED),
        ("draft", Undrafted.RAISED),
        ("vocabulary", Undrafted.OUT_OF_VOCABULARY),
        ("many", Undrafted.TOO_MANY),
    ],
)
def test_faulty_proposer_is_dropped_and_counted_once(way: str, reason: Undrafted) -> None:
    machine = speculation(is_adaptive=False)
    machine.begin("a", [1, 2], Wish("drafter", way))

    drafts = [machine.step([RowStep("a", Verdict([0]), room=4)], seconds=0.1)[0] for _ in range(10)]

    assert drafts[0] == [0]
    assert drafts[3:] == [[]] * 7
    assert machine.counts.fallbacks == {reason: 1}


def test_reason_leaves_a_request_without_drafts() -> None:
    machine = speculation(is_adaptive=False)
    machine.begin("a", [1, 2, 1], Wish("auto"), Undrafted.SEED)
    machine.begin("b", [1, 2, 1], Wish("off"), Undrafted.SEED)

    steps = [RowStep(name, Verdict([2]), room=4) for name in "ab"]

    assert machine.step(steps, seconds=0.1) == [[], []]
    assert machine.counts.fallbacks == {Undrafted.SEED: 1}  # who wants none lacks none


def test_request_that_never_has_room_has_no_proposer() -> None:
    """As what computes a prompt ahead, which asks for one token."""
    made = []

    def copying(tokens: Sequence[int], _: str | None) -> Proposer:
        made.append(list(tokens))
        return CopyDrafter(tokens)

    machine = Speculation({Source.COPY: copying}, [Source.COPY], max_tokens=4, vocabulary=9)
    machine.begin("a", [1, 2, 1], Wish("auto"), room=0)
    machine.begin("b", [1, 2, 1], Wish("auto"), Undrafted.SEED, room=-1)
    machine.begin("c", [1, 2, 1], Wish("auto"), room=1)

    assert made == [[1, 2, 1]]
    assert machine.counts.fallbacks == {}
    assert machine.num_tokens("a") == 3


def test_missing_drafter_is_counted_and_copying_takes_its_place() -> None:
    machine = speculation(is_adaptive=False)
    machine.begin("a", [1, 2, 3, 1], Wish("drafter"))

    assert machine.step([RowStep("a", Verdict([2]), room=2)], seconds=0.1) == [[3, 1]]
    assert machine.counts.fallbacks == {Undrafted.NO_DRAFTER: 1}


def test_what_was_drafted_for_a_request_is_known_for_a_while_after_its_end() -> None:
    machine = speculation(is_adaptive=False)
    for name in "ab":
        machine.begin(name, [1, 2, 3, 4, 1], Wish("copy" if name == "a" else "off"))
    machine.step([RowStep(name, Verdict([2]), room=3) for name in "ab"], seconds=0.1)
    right = Verdict([3, 4, 9], [3, 4, 1])
    machine.step([RowStep("a", right, room=9), RowStep("b", Verdict([3]), room=9)], seconds=0.1)

    expected = Speculated(drafted=3, accepted=2, steps=1)
    assert machine.drafted_for("a") == expected
    machine.end("a")
    machine.end("b")
    assert machine.drafted_for("a") == expected
    assert machine.drafted_for("b") == machine.drafted_for("unknown") == Speculated()

    for number in range(1024):  # which are drafted for, too
        machine.begin(f"{number}", [1, 2, 3, 4, 1], Wish("copy"))
        machine.step([RowStep(f"{number}", right, room=0)], seconds=0.1)
        machine.end(f"{number}")
    assert machine.drafted_for("1023") == expected
    assert machine.drafted_for("a") == Speculated()


class Always:
    """A table that offers the same tokens, be they right or wrong."""

    def __init__(self, token: int) -> None:
        self._token = token

    def observe(self, verdict: Verdict) -> None:
        pass

    def draft(self, max_tokens: int) -> Draft | None:
        return Draft([self._token] * max_tokens)


def test_tables_of_two_languages_do_not_learn_from_each_other() -> None:
    right, wrong = 0, 1

    def drafted(languages: Sequence[str], num_steps: int = 40) -> int:
        """Tokens drafted for the last request, requests having come one after another."""
        tables = {"de": Always(wrong), "fr": Always(right)}
        machine = Speculation(
            {Source.DRAFTER: lambda _, language: tables[language or ""]},
            [Source.DRAFTER],
            max_tokens=MAX_TOKENS,
            vocabulary=VOCABULARY,
            languages=tuple(tables),
        )
        num = 0
        for language in languages:
            machine.begin("a", [1, 2], Wish("drafter", language))
            draft: list[int] = []
            num = 0
            for _ in range(num_steps):
                hits = len(draft) if language == "fr" else 0
                step = RowStep("a", Verdict([right] * (hits + 1), draft), room=MAX_TOKENS)
                (draft,) = machine.step([step], seconds=0.1 * (1 + 0.05 * len(draft)))
                num += len(draft)
            machine.end("a")
        return num

    assert drafted(["fr", "de", "de", "de", "fr"]) >= 0.95 * MAX_TOKENS * 40
    assert drafted(["fr", "fr", "de", "de", "de", "de"]) <= MAX_TOKENS  # a draft at most


def test_counts_tell_declared_languages_apart() -> None:
    machine = speculation(is_adaptive=False, languages=["de"])
    wished = {"a": "de-AT", "b": "fr", "c": None, "d": "it"}
    for name, language in wished.items():
        machine.begin(name, [1, 2, 3, 4, 1], Wish("copy", language))
    machine.step([RowStep(name, Verdict([2]), room=3) for name in wished], seconds=0.1)

    right, wrong = Verdict([3, 4, 9], [3, 4, 1]), Verdict([7], [3, 4, 1])
    machine.step(
        [RowStep("a", right, room=0), *(RowStep(name, wrong, room=0) for name in "bcd")],
        seconds=0.2,
    )

    found = machine.counts.languages
    assert {name: (each.rows, each.tokens) for name, each in found.items()} == {
        "de": (2, 4),
        "other": (4, 4),
        "none": (2, 2),
    }
    assert found["de"].sources["copy"].accepted == [1, 1, 0]
    assert found["other"].sources["copy"].drafted == [2, 2, 2]
    assert found["none"].sources["copy"].accepted == [0, 0, 0]


def test_counts_say_what_was_accepted_where() -> None:
    machine = speculation(is_adaptive=False)
    machine.begin("a", [1, 2, 3, 4, 1], Wish("copy"))
    machine.step([RowStep("a", Verdict([2]), room=3)], seconds=0.1)

    machine.step([RowStep("a", Verdict([3, 4, 9], [3, 4, 1]), room=0)], seconds=0.2)
    machine.spent(0.01)

    counts = machine.counts
    assert (counts.steps, counts.rows, counts.tokens) == (2, 2, 4)
    assert (counts.plain_s, counts.verify_s, counts.draft_s) == (0.1, 0.2, 0.01)
    assert (counts.plain_steps, counts.verify_steps, counts.mixed_steps) == (1, 1, 0)
    assert counts.decisions == {"draft": 1, "no_draft": 1}
    assert counts.sources["copy"].drafts == 1
    assert counts.sources["copy"].drafted == [1, 1, 1]
    assert counts.sources["copy"].accepted == [1, 1, 0]


def test_steps_with_prompts_are_counted_apart() -> None:
    machine = speculation()
    machine.begin("a", [1, 2, 3, 4, 1], Wish("off"))

    machine.step([RowStep("a", Verdict([2]), room=3)], seconds=0.3, num_prompt_tokens=5)

    counts = machine.counts
    assert (counts.steps, counts.mixed_steps, counts.mixed_s, counts.plain_s) == (1, 1, 0.3, 0)
    assert counts.decisions == {"no_draft": 1}
