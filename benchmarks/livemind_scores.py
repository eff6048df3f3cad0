"""What the arms on real models took and got right, with 95 % intervals."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.estimates import exactly, wilson
from headstart.benchmarks.livemind_protocol import Outcome
from headstart.benchmarks.report import Table
from headstart.stages.mind_prompt import Format

__all__ = [
    "COLLABORATIVE",
    "INTERVALS",
    "PLAIN",
    "WANTED",
    "intervals_check",
    "outcomes_table",
]

INTERVALS = Bar("arms_without_accuracy_and_engine_seconds_intervals", 0, "lower", "arms")
PLAIN, COLLABORATIVE = "plain chain of thought", "collaborative"
WANTED = (PLAIN, *(form.value for form in Format), COLLABORATIVE)
"""Arms that a run on models is to have."""
_FEWEST = 4
"""Questions, for an interval of a mean."""
_WITHOUT = (None, None)

Found = Sequence[Mapping[str, Outcome]]
"""For each question, the outcome of every arm."""
Interval = tuple[float, float] | tuple[None, None]


def outcomes_table(title: str, found: Found, max_tokens: int) -> Table:
    """Say for every arm what it took, and how often it was right.

    Args:
        max_tokens: Of an answer; one that has as many was cut there.
    """
    return Table(
        f"{title}, means with 95 % intervals. A small model's accuracy is near chance "
        "(config.model.chance), and says nothing of the method's",
        (
            *("arm", "questions", "first_s", "first_low", "first_high", "whole_s", "whole_low"),
            *("whole_high", "engine_s", "engine_low", "engine_high", "accuracy", "acc_low"),
            *("acc_high", "without_letter", "cut", "thoughts", "answer_tokens"),
        ),
        tuple(_row(name, outcomes, max_tokens) for name, outcomes in _arms(found)),
    )


def intervals_check(parts: Sequence[tuple[Sequence[str], Found]], *, is_quick: bool) -> Check:
    """Judge whether every arm has intervals of its accuracy and its engine seconds.

    Args:
        parts: What was found, each with the arms that it is to have.
    """
    arms = [
        dict(_arms(found)) | {name: [] for name in wanted if not found or name not in found[0]}
        for wanted, found in parts
    ]
    each = [outcomes for part in arms for outcomes in part.values()]
    fewest = min(map(len, each), default=0)
    if is_quick and fewest < _FEWEST:
        return not_measured(INTERVALS, f"fewer than {_FEWEST} questions in a quick run")
    lacking = sum(
        None in (*_interval([one.engine_s for one in own]), *_accuracy(own)[1:]) for own in each
    )
    note = f"{len(each)} arms, {fewest} questions and more; see the tables"
    return judge(INTERVALS, exactly(lacking), is_quick=is_quick, note=note)


def _arms(found: Found) -> Iterator[tuple[str, list[Outcome]]]:
    for name in found[0] if found else ():
        yield name, [one[name] for one in found]


def _row(
    name: str, outcomes: Sequence[Outcome], max_tokens: int
) -> tuple[str | float | int | None, ...]:
    num = len(outcomes)
    return (
        name,
        num,
        *_spread([one.first_token_s for one in outcomes]),
        *_spread([one.whole_s for one in outcomes]),
        *_spread([one.engine_s for one in outcomes]),
        *_accuracy(outcomes),
        sum(one.stated is None for one in outcomes) / num,
        sum(one.output_tokens >= max_tokens for one in outcomes) / num,
        float(np.mean([one.num_thoughts for one in outcomes])),
        float(np.mean([one.output_tokens for one in outcomes])),
    )


def _spread(values: Sequence[float]) -> tuple[float | None, ...]:
    return float(np.mean(values)), *_interval(values)


def _interval(values: Sequence[float]) -> Interval:
    """Return the 95 % interval of a mean, by resampling; None where there are too few."""
    if len(values) < _FEWEST:
        return _WITHOUT
    random = np.random.default_rng(0)
    drawn = random.choice(np.asarray(values), size=(2000, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _accuracy(outcomes: Sequence[Outcome]) -> tuple[float | None, ...]:
    num, num_right = len(outcomes), sum(one.is_right for one in outcomes)
    if not num:
        return None, *_WITHOUT
    found = wilson(num_right, num)
    return found.value, found.low, found.high
