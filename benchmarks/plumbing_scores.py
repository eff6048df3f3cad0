"""The bars on what drafting itself costs, and the tables beside them."""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

import msgspec
import numpy as np

from headstart.benchmarks.checks import Bar, Check, judge
from headstart.benchmarks.estimates import Estimate, over_blocks
from headstart.benchmarks.report import Table

__all__ = ["CROWDS", "REPLAYED", "REPLAY_TOKENS", "Crowd", "Replay", "Round", "checks", "tables"]

REPLAYED = (2, 4, 8)
REPLAY_TOKENS = 8
CROWDS = (1, 16)
"""How many are asked at once where nothing is accepted."""
_POSSIBLE = 0.9
_NO_SLOWER = 1.03

Row = tuple[str | float | int | None, ...]


class Replay(msgspec.Struct, frozen=True):
    """Drafts of which so many tokens are right, while an answer has room for them."""

    per_step: float
    """Tokens."""
    plain_s: float
    """A token, of the plain engine."""
    ours_s: float

    @property
    def over_plain(self) -> float:
        """Times the plain engine's speed."""
        return self.plain_s / self.ours_s


class Crowd(msgspec.Struct, frozen=True):
    """Answers side by side of which no draft is accepted: seconds of decoding."""

    full_s: float
    """Wrong drafts, with all that makes drafts and the capture of the model's predictions."""
    bare_s: float
    """The same drafts without."""
    auto_s: float
    """With all of it, where the controller decides how much is drafted."""
    off_s: float
    """Without drafts."""
    draft_s: float
    """Spent on proposing in a step, as the engine counts it."""
    accepted: int
    """Tokens that happened to be right after all."""


class Round(msgspec.Struct, frozen=True):
    """Everything once."""

    steps_s: dict[str, float]
    """Seconds of a step by the tokens that it verifies."""
    replays: dict[str, Replay]
    """By how many tokens are right: all of one length."""
    controlled: dict[str, Replay]
    """The same where the controller says how long: with what it has to learn first."""
    crowds: dict[str, Crowd]
    """By how many answers there are."""

    def possible(self, right: int) -> float:
        """Return the speed over plain of drafts of which so many are right: tokens per step over
        what verifying them costs.
        """
        cost = self.steps_s[str(REPLAY_TOKENS + 1)] / self.steps_s["1"]
        return (right + 1) / cost


def checks(found: Sequence[Round], *, is_quick: bool) -> Iterator[Check]:
    """Judge the plumbing; rounds are the blocks."""
    note = f"{len(found)} rounds"
    for right in REPLAYED:
        bar = Bar(f"replay_{right}_right_of_possible", _POSSIBLE, "higher", "ratio")
        share = _mean(found, _share(right))
        yield judge(bar, share, is_quick=is_quick, note=note)
    for size in CROWDS:
        bar = Bar(f"proposers_and_capture_of_a_step_x{size}", _NO_SLOWER, "lower", "ratio")
        yield judge(bar, _mean(found, _proposing(size)), is_quick=is_quick, note=note)
        bar = Bar(f"auto_of_off_nothing_accepted_x{size}", _NO_SLOWER, "lower", "ratio")
        yield judge(bar, _mean(found, _deciding(size)), is_quick=is_quick, note=note)


Replays = Callable[[Round], dict[str, Replay]]


def _fixed(one: Round) -> dict[str, Replay]:
    return one.replays


def _controlled(one: Round) -> dict[str, Replay]:
    return one.controlled


def _share(right: int, replays: Replays = _fixed) -> Callable[[Round], float]:
    return lambda one: replays(one)[str(right)].over_plain / one.possible(right)


def _over_one(num: int) -> Callable[[Round], float]:
    return lambda one: one.steps_s[str(num)] / one.steps_s["1"]


def _reached(right: int, replays: Replays) -> Callable[[Round], float]:
    return lambda one: replays(one)[str(right)].over_plain


def _possible(right: int) -> Callable[[Round], float]:
    return lambda one: one.possible(right)


def _proposing(size: int) -> Callable[[Round], float]:
    return lambda one: one.crowds[str(size)].full_s / one.crowds[str(size)].bare_s


def _deciding(size: int) -> Callable[[Round], float]:
    return lambda one: one.crowds[str(size)].auto_s / one.crowds[str(size)].off_s


def _mean(found: Sequence[Round], ratio: Callable[[Round], float]) -> Estimate:
    """Estimate the geometric mean of a ratio."""
    logs = [math.log(ratio(one)) for one in found]
    return over_blocks(logs, lambda drawn: math.exp(float(np.mean(drawn))))


def tables(found: Sequence[Round]) -> list[Table]:
    """All there is to say."""
    return [
        _costs(found),
        _outside(found),
        _replays(found, f"Replayed drafts of {REPLAY_TOKENS} tokens, one request", _fixed),
        _replays(found, "The same at lengths that the controller learns", _controlled),
        _crowds(found),
    ]


def _costs(found: Sequence[Round]) -> Table:
    rows: list[Row] = []
    for num in sorted(map(int, found[0].steps_s)):
        own = [one.steps_s[str(num)] for one in found]
        over = _mean(found, _over_one(num))
        rows.append((num, fmean(own), over.value, *_ends(over)))
    columns = ("tokens", "step_s", "over_one", "from", "to")
    return Table("Cost of verifying, one request", columns, tuple(rows))


def _outside(found: Sequence[Round]) -> Table:
    token_s = fmean(replay.plain_s for one in found for replay in one.replays.values())
    step_s = fmean(one.steps_s["1"] for one in found)
    return Table(
        "A token of the plain engine, one request: what passes outside model and sampler",
        ("token_s", "model_and_sampler_s", "outside_share"),
        ((token_s, step_s, 1 - step_s / token_s),),
    )


def _replays(found: Sequence[Round], title: str, replays: Replays) -> Table:
    rows: list[Row] = []
    for right in REPLAYED:
        share = _mean(found, _share(right, replays))
        per_step = fmean(replays(one)[str(right)].per_step for one in found)
        reached = _mean(found, _reached(right, replays)).value
        possible = _mean(found, _possible(right)).value
        cost = (right + 1) / possible
        rows.append((right, per_step, reached, cost, share.value, *_ends(share)))
    columns = (
        *("right", "tokens_per_step", "over_plain", "step_cost", "of_what_is_possible"),
        *("from", "to"),
    )
    return Table(title, columns, tuple(rows))


def _crowds(found: Sequence[Round]) -> Table:
    rows: list[Row] = []
    for size in CROWDS:
        own = [one.crowds[str(size)] for one in found]
        for name, ratio in (("full / bare", _proposing(size)), ("auto / off", _deciding(size))):
            over = _mean(found, ratio)
            draft_s = fmean(one.draft_s for one in own)
            accepted = sum(one.accepted for one in own)
            rows.append((size, name, over.value, *_ends(over), draft_s, accepted))
    columns = ("answers", "arms", "ratio", "from", "to", "proposing_s_a_step", "accepted")
    return Table("Where no draft is accepted: seconds over seconds", columns, tuple(rows))


def _ends(ratio: Estimate) -> tuple[float | None, float | None]:
    if math.isinf(ratio.half_width):
        return None, None
    return ratio.low, ratio.high
