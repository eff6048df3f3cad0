"""What is made of the engine's counts and times: an engine that answers by a rule stands in."""

from pathlib import Path
from typing import Any, Self

import pytest

from headstart.cluster.engine_child import Done
from headstart.recipes import engine
from headstart.recipes.answering import Question
from headstart.recipes.decoding_arms import EvaluateOptions, by_engine, sizes_of
from headstart.stages.drafting import Source
from headstart.stages.errors import SetupError
from headstart.stages.jacobi import SAID_GRADE
from headstart.stages.speculation_counts import LanguageCounts, SourceCounts, SpeculationCounts
from headstart.stages.speculation_labels import NO_LANGUAGE

LOOPS = 7
"""The prompt whose answer loops."""


class Ruled:
    """Says 41 tokens to each prompt; Jacobi steps give two tokens, and take 1.25 times as long.

    As in the engine, a prompt's own step is a row with a token, and no step of decoding.
    """

    asked: list[tuple[str, int, int | None, bool]]
    num_tokens = 41

    def __init__(self, _folder: Path, **options: Any) -> None:
        self._is_adaptive = options["speculation"].is_adaptive

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def answer(
        self, questions: list[Question], max_tokens: int, mode: str, at_once: int | None = None
    ) -> Done:
        prompts = [each.prompt for each in questions]
        self.asked.append((mode, len(prompts), at_once, self._is_adaptive))
        answers = [
            [9] * 81 if prompt == [LOOPS] else list(range(self.num_tokens)) for prompt in prompts
        ]
        each = 2 if mode == "jacobi" else 1
        step_s = 0.125 if mode == "jacobi" else 0.1
        seconds = [(len(answer) - 1) / each * step_s for answer in answers]
        steps = sum((len(answer) - 1) // each for answer in answers)
        tokens = sum(len(answer) - 1 for answer in answers)
        sources: dict[str, SourceCounts] = {}
        if mode == "jacobi":
            by_grade = [tokens // 8] * (1 + SAID_GRADE)
            sources[Source.JACOBI] = SourceCounts(accepted_by_grade=by_grade)
        all_rows, all_tokens = steps + len(prompts), tokens + len(prompts)
        counted = LanguageCounts(rows=all_rows, tokens=all_tokens, sources=sources)
        counts = SpeculationCounts(
            plain_steps=steps, plain_s=steps * step_s, languages={NO_LANGUAGE: counted}
        )
        lasts = [float(sum(seconds[: number + 1])) for number in range(len(seconds))]
        firsts = [last - each for last, each in zip(lasts, seconds, strict=True)]
        return Done(prompts, answers, firsts, lasts, counts)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int | None, bool]]:
    Ruled.asked = []
    monkeypatch.setattr(engine, "Engine", Ruled)
    return Ruled.asked


def options(**changed: Any) -> EvaluateOptions:
    here = Path("here")
    return EvaluateOptions(model="m", prompts=here, out=here, **changed)


def test_both_ways_take_turns_and_loops_are_told_apart(
    asked: list[tuple[str, int, int | None, bool]], tmp_path: Path
) -> None:
    chat: Any = None
    figures, plain = by_engine(options(), chat, Path("m"), [[n] for n in range(12)], tmp_path)

    modes = "".join(mode[0] for mode, *_ in asked[2:])
    assert modes == "o" * 8 + "j" * 8 + "o" * 4 + "j" * 4
    assert len(plain) == 12
    fit = figures["not_looping"]
    assert (fit["answers"], figures["looping"]["answers"]) == (11, 1)
    assert fit["tokens_per_step"] == pytest.approx(41 / 21)
    assert fit["tokens_per_step_95"] == pytest.approx([41 / 21] * 2)
    assert fit["tokens_per_step_unsaid"] == pytest.approx(41 / (21 + 40 / 8))
    assert fit["tokens_per_step_unsaid_95"] == pytest.approx([41 / 26] * 2)
    assert fit["step_cost"] == pytest.approx(1.25)
    assert fit["tokens_per_s_plain"] == pytest.approx(10)
    assert fit["speedup"] == pytest.approx(1.6)
    assert fit["of_what_steps_give"] == pytest.approx(1.0)
    assert fit["of_what_steps_give_95"] == pytest.approx([1.0, 1.0])
    assert figures["looping"]["tokens_per_step_95"] is None
    assert figures["answers_that_differ"] == 0
    assert "by_batch" not in figures


def test_batches_are_the_same_both_ways_and_one_that_loops_takes_its_batch_along(
    asked: list[tuple[str, int, int | None, bool]], tmp_path: Path
) -> None:
    chat: Any = None
    figures, plain = by_engine(
        options(batch=4), chat, Path("m"), [[n] for n in range(10)], tmp_path
    )

    sizes = {
        name: [num for mode, num, *_ in asked[2:] if mode == name] for name in ("off", "jacobi")
    }
    assert sizes == {"off": [4, 4, 2], "jacobi": [4, 4, 2]}
    assert len(plain) == 10
    assert (figures["not_looping"]["answers"], figures["looping"]["answers"]) == (6, 4)
    assert figures["not_looping"]["speedup"] == pytest.approx(1.6)


def test_answers_of_one_token_are_counted_and_not_timed(
    asked: list[tuple[str, int, int | None, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ruled, "num_tokens", 1)
    chat: Any = None
    figures, _ = by_engine(options(), chat, Path("m"), [[n] for n in range(20, 32)], tmp_path)

    assert figures["not_looping"]["answers"] == 12
    assert figures["not_looping"]["tokens_per_step"] == 1
    assert "speedup" not in figures["not_looping"]


def test_a_killed_engine_is_asked_only_for_what_is_missing(
    asked: list[tuple[str, int, int | None, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat: Any = None
    prompts = [[n] for n in range(20)]
    meant, plain = by_engine(options(batches="1,2"), chat, Path("m"), prompts, tmp_path / "whole")
    asked.clear()
    answer = Ruled.answer

    def killed(self: Ruled, *args: Any, **rest: Any) -> Done:
        if len(asked) == 2 + 16 + 3:  # what is slow at first, a turn, and some of the next
            raise KeyboardInterrupt
        return answer(self, *args, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(Ruled, "answer", killed)
        with pytest.raises(KeyboardInterrupt):
            by_engine(options(batches="1,2"), chat, Path("m"), prompts, tmp_path / "killed")
    asked.clear()

    found = by_engine(options(batches="1,2"), chat, Path("m"), prompts, tmp_path / "killed")

    assert found == (meant, plain)
    assert len([each for each in asked if not each[3]]) == 2 + 2 * 12
    asked.clear()
    assert by_engine(options(batches="1,2"), chat, Path("m"), prompts, tmp_path / "killed") == found
    assert not asked


def test_answers_at_once_are_timed_as_the_server_serves_them(
    asked: list[tuple[str, int, int | None, bool]], tmp_path: Path
) -> None:
    chat: Any = None
    prompts = [[n] for n in range(LOOPS + 1)]
    figures, _ = by_engine(options(batches="1, 16"), chat, Path("m"), prompts, tmp_path)

    served = [each for each in asked if each[3]][2:]
    assert served == [
        *(("jacobi", 16, 1, True), ("off", 16, 1, True)),
        *(("off", 32, 16, True), ("jacobi", 32, 16, True)),
    ]
    assert [row["batch"] for row in figures["by_batch"]] == [1, 16]
    assert figures["by_batch"][1]["answers"] == 32
    assert figures["by_batch"][1]["speedup"] == pytest.approx(1.6)


@pytest.mark.parametrize("said", ["1,x", "0", "-2"])
def test_sizes_that_are_none_are_refused(said: str) -> None:
    with pytest.raises(SetupError, match="numbers with commas"):
        sizes_of(options(batches=said))
