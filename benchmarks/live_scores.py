"""The bars of live prompts, and the tables beside them."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.estimates import Estimate, exactly, over_blocks, quantile
from headstart.benchmarks.live_exactness import Compared
from headstart.benchmarks.live_interference import NUM_TYPISTS, Rounds
from headstart.benchmarks.live_prompts import BIG_TOKENS, CLASSES, LONG, MIDDLE
from headstart.benchmarks.live_replay import Measured
from headstart.benchmarks.report import Table
from headstart.benchmarks.typists import ARMS, EDITED, TYPED, TYPIST

__all__ = [
    "bars",
    "exact_checks",
    "exact_table",
    "interference_check",
    "interference_table",
    "replay_checks",
    "replay_table",
    "stages_table",
    "waste",
    "whole_table",
]

_NO_WORSE = 1.03
_REDUCTIONS = {LONG.name: ((0.5, 0.07), (0.95, 0.15)), MIDDLE.name: ((0.5, 0.25),)}
"""By class: quantile of the first token's time, and what may be left of it."""
_EDITED_LEFT = 0.2
_FIRST_STAGES = ("parse", "auth", "route", "hop", "tokenise", "queue", "prefill")
_TIES = 2 / 500
_TAIL = 20
"""Fewest of which a p95 is not just the slowest."""


def _replay_bars() -> Iterator[tuple[Bar, str, str, float]]:
    """Yield the bars on a ratio of first-token times: arm, class and quantile."""
    for arm in TYPED:
        for length, limits in _REDUCTIONS.items():
            for share, limit in limits:
                name = f"first_token_p{share * 100:.0f}_{arm}_{length}"
                yield Bar(name, limit, "lower", "ratio"), arm, length, share
    for arm in ARMS:
        for each in CLASSES:
            name = f"first_token_no_worse_{arm}_{each.name}"
            yield Bar(name, _NO_WORSE, "lower", "ratio"), arm, each.name, 0.5
    name = f"first_token_p50_late_edit_{LONG.name}"
    yield Bar(name, _EDITED_LEFT, "lower", "ratio"), EDITED, LONG.name, 0.5


WASTE = Bar("waste_typist", 1.0, "lower", "tokens/token")
INTERFERENCE = Bar("ordinary_first_token_p95_beside_8_typists", 1.1, "lower", "ratio")
INEXACT = Bar("answers_that_differ_without_a_tie", 0, "lower", "answers")
TIES = Bar("ties_per_500_answers", _TIES * 500, "lower", "answers")


AHEAD = Bar("compared_prompts_computed_ahead", 0.5, "higher", "tokens/token")
"""Of those with five sentences and more: what is not computed ahead proves nothing of that."""


def bars() -> list[Bar]:
    """Every bar, for a run that can measure none."""
    return [*(bar for bar, *_ in _replay_bars()), WASTE, INTERFERENCE, INEXACT, TIES, AHEAD]


def replay_checks(measured: Sequence[Measured], *, is_quick: bool) -> Iterator[Check]:
    """Judge one part; its prompts are the blocks."""
    for bar, arm, length, share in _replay_bars():
        own = [one for one in measured if (one.arm, one.length) == (arm, length)]
        if not own:
            yield not_measured(bar, "takes longer than a quick run has")
            continue
        note = _sizes(own, share) if length == LONG.name else ""
        yield judge(bar, over_blocks(own, _ratio(share)), is_quick=is_quick, note=note)
    typed = [one for one in measured if one.arm == TYPIST]
    yield judge(WASTE, over_blocks(typed, waste), is_quick=is_quick)


def interference_check(rounds: Rounds, *, is_quick: bool, bar: Bar = INTERFERENCE) -> Check:
    """Judge what ordinary requests feel of the typists."""
    crowds = rounds.crowds
    num = sum(len(one.alone_s) for one in crowds)
    ratio = over_blocks(
        crowds,
        lambda drawn: (
            _pooled([one.beside_s for one in drawn], 0.95)
            / _pooled([one.alone_s for one in drawn], 0.95)
        ),
    )
    note = f"{num} requests in each arm, at half of {rounds.capacity_per_s:.2f} requests/s"
    return judge(bar, ratio, is_quick=is_quick, note=note)


def exact_checks(compared: Sequence[Compared], *, is_quick: bool) -> Iterator[Check]:
    """Judge the answers: counts, which nothing makes uncertain."""
    fewest = min(one.answer_tokens for one in compared)
    note = (
        f"{len(compared)} prompts, {_share(compared):.0%} of their tokens computed ahead; answers "
        f"of {fewest} tokens, compared by id"
    )
    differ = sum(not one.is_exact for one in compared)
    yield judge(INEXACT, exactly(differ), is_quick=is_quick, note=note)
    ties = sum(one.is_exact and not one.is_same for one in compared)
    estimate: Estimate = exactly(500 * ties / len(compared))
    yield judge(TIES, estimate, is_quick=is_quick, note=f"{ties} of {len(compared)}")
    long = [one for one in compared if one.num_sentences >= MIDDLE.fewest]
    if long:
        yield judge(AHEAD, exactly(_share(long)), is_quick=is_quick, note=f"{len(long)} prompts")
    else:
        yield not_measured(AHEAD, f"no prompt has {MIDDLE.fewest} sentences")


def waste(measured: Sequence[Measured]) -> float:
    """Tokens computed ahead that the committed prompts did not have, for each that they have."""
    committed = sum(one.live.prompt_tokens for one in measured)
    return sum(one.live.wasted_tokens for one in measured) / committed


def replay_table(measured: Sequence[Measured]) -> Table:
    """Times and costs by part, arm and class."""
    cells: dict[tuple[str, str, str], list[Measured]] = {}
    for one in measured:
        cells.setdefault((one.part, one.arm, one.length), []).append(one)
        if _is_big(one):
            length = f"{one.length}, {BIG_TOKENS} tokens and more"
            cells.setdefault((one.part, one.arm, length), []).append(one)
    return Table(
        "From the last key (live) or the request (plain) to the first token and to the last",
        (
            *("part", "arm", "sentences", "prompts", "prompt_tokens", "typed_s"),
            *(f"{side}_first_{share}_s" for side in ("live", "plain") for share in ("p50", "p95")),
            *("whole_prompts", "whole_tokens"),
            *(f"{side}_whole_p50_s" for side in ("live", "plain")),
            *("cached_share", "waste", "live_engine_s", "plain_engine_s", "same_answers"),
        ),
        tuple((*cell, *_figures(own)) for cell, own in sorted(cells.items())),
    )


def whole_table(measured: Sequence[Measured]) -> Table:
    """Times of complete answers by part and class, over all arms."""
    cells: dict[tuple[str, str], list[Measured]] = {}
    for one in measured:
        if one.is_whole:
            cells.setdefault((one.part, one.length), []).append(one)
    return Table(
        f"Complete answers of every arm; no p95 of fewer than {_TAIL} prompts",
        (
            *("part", "sentences", "prompts"),
            *(f"{side}_whole_{share}_s" for share in ("p50", "p95") for side in ("live", "plain")),
        ),
        tuple(
            (
                *cell,
                len(own),
                *_times(own, "whole_s", (0.5,)),
                *(_times(own, "whole_s", (0.95,)) if len(own) >= _TAIL else (None, None)),
            )
            for cell, own in sorted(cells.items())
        ),
    )


def stages_table(measured: Sequence[Measured]) -> Table:
    """Where the time to the first token goes, by the gateway's clock."""
    cells: dict[tuple[str, str, str, str], list[dict[str, float]]] = {}
    for one in measured:
        where = (one.part, one.arm, one.length)
        for side, stages_s in (("live", one.live.stages_s), ("plain", one.plain.stages_s)):
            cells.setdefault((*where, side), []).append(stages_s)
    return Table(
        "Stages up to the first token, median seconds",
        ("part", "arm", "sentences", "side", *_FIRST_STAGES),
        tuple(
            (
                *cell,
                *(float(np.median([one.get(name, 0.0) for one in own])) for name in _FIRST_STAGES),
            )
            for cell, own in sorted(cells.items())
        ),
    )


def interference_table(rounds: Rounds, who: str = "typists") -> Table:
    """First-token times of the ordinary requests."""
    crowds = rounds.crowds
    sides = (
        ("alone", [one.alone_s for one in crowds], [one.ahead_alone for one in crowds]),
        (
            f"beside {NUM_TYPISTS} {who}",
            [one.beside_s for one in crowds],
            [one.ahead_beside for one in crowds],
        ),
    )
    return Table(
        "Ordinary requests at half load, seconds to the first token",
        ("arm", "requests", "p50_s", "p95_s", "slices_and_thoughts_meanwhile"),
        tuple(
            (name, sum(map(len, parts)), _pooled(parts, 0.5), _pooled(parts, 0.95), sum(ahead))
            for name, parts, ahead in sides
        ),
    )


def exact_table(compared: Sequence[Compared]) -> Table:
    """What was compared."""
    return Table(
        "Greedy float32 answers of prompts typed with corrections, beside the plain ones",
        ("prompts", "answer_tokens", "same", "ties", "differ", "share_computed_ahead"),
        (
            (
                len(compared),
                min(one.answer_tokens for one in compared),
                sum(one.is_same for one in compared),
                sum(one.is_exact and not one.is_same for one in compared),
                sum(not one.is_exact for one in compared),
                _share(compared),
            ),
        ),
    )


def _figures(own: Sequence[Measured]) -> tuple[float | int | None, ...]:
    num = len(own)
    whole = [one for one in own if one.is_whole]
    return (
        num,
        sum(one.live.prompt_tokens for one in own) / num,
        sum(one.typed_s for one in own) / num,
        *_times(own, "first_s", (0.5, 0.95)),
        len(whole),
        max((one.plain.output_tokens for one in whole), default=None),
        *_times(whole, "whole_s", (0.5,)),
        sum(one.live.cached_tokens for one in own) / sum(one.live.prompt_tokens for one in own),
        waste(own),
        sum(one.live.engine_s for one in own) / num,
        sum(one.plain.engine_s for one in own) / num,
        sum(one.is_same for one in own),
    )


def _times(own: Sequence[Measured], span: str, shares: Sequence[float]) -> list[float | None]:
    return [
        quantile(np.array([_seconds(one, side, span) for one in own]), share) if own else None
        for side in ("live", "plain")
        for share in shares
    ]


def _is_big(one: Measured) -> bool:
    return one.length == LONG.name and one.plain.prompt_tokens >= BIG_TOKENS


def _sizes(own: Sequence[Measured], share: float) -> str:
    """Say how long prompts were, and what came of those that are long enough for their bar."""
    sizes = sorted(one.plain.prompt_tokens for one in own)
    big = [one for one in own if _is_big(one)]
    told = f"{len(own)} prompts of {sizes[0]} to {sizes[-1]} tokens"
    if not big:
        return f"{told}, none of {BIG_TOKENS} or more"
    return f"{told}; {_ratio(share)(big):.3f} over the {len(big)} of {BIG_TOKENS} and more"


def _ratio(share: float) -> Callable[[Sequence[Measured]], float]:
    return lambda own: (
        quantile(np.array([one.live.first_s for one in own]), share)
        / quantile(np.array([one.plain.first_s for one in own]), share)
    )


def _seconds(one: Measured, side: str, span: str) -> float:
    found: float = getattr(getattr(one, side), span)
    return found


def _pooled(parts: Sequence[Sequence[float]], share: float) -> float:
    return quantile(np.concatenate([np.array(part) for part in parts]), share)


def _share(compared: Sequence[Compared]) -> float:
    return sum(one.cached_tokens for one in compared) / sum(one.prompt_tokens for one in compared)
