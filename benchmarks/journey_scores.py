"""The bars of the whole journey, and the tables beside them."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

import numpy as np

from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.estimates import exactly, over_blocks
from headstart.benchmarks.journey_client import Features
from headstart.benchmarks.journey_measured import RIVAL, Measured
from headstart.benchmarks.journey_ratios import SPANS, Arms, apart, ends, ratio_of
from headstart.benchmarks.report import Table

__all__ = ["ALL", "ARMS", "BARS", "checks", "dominant", "tables", "unmeasured"]

ALL = Features(live=True, speculation=True, datagrams=True)
NONE = Features(live=False, speculation=False, datagrams=False)
ARMS = [
    Features(live, speculation, datagrams)
    for live in (False, True)
    for speculation in (False, True)
    for datagrams in (False, True)
]
BARS = {
    "first": Bar("first_token_of_vllm_serve", 0.5, "lower", "ratio"),
    "last": Bar("last_token_of_vllm_serve", 0.8, "lower", "ratio"),
}
FAILED = Bar("answers_not_whole", 0, "lower", "answers")
_GOALS = {"first": 0.2, "last": 0.5}
_GATEWAY = ("parse", "auth", "route", "hop", "tokenise")
_PARTS = ("gateway and tokenising", "queue", "prefill", "decode", "outside the server")
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of an answer's text."""

Rows = tuple[tuple[str | float | int | None, ...], ...]


def checks(found: Arms, *, is_quick: bool) -> Iterator[Check]:
    """Judge all of ours together beside the rival; prompts are the blocks.

    How fast an answer is made is judged where it does not loop: there any draft is right.
    """
    for span, bar in BARS.items():
        kept = found if span == "first" else apart(found, is_looping=False)
        ours, theirs = kept[ALL.name], kept[RIVAL]
        if not ours:
            yield not_measured(bar, "every answer loops")
            continue
        ratio = ratio_of(ours, theirs, span)
        goal = "reached" if ratio.value <= _GOALS[span] else "not reached"
        note = f"the goal of {_GOALS[span]} is {goal}; {dominant(ours, span)}; "
        note += f"{len(ours)} of {len(found[RIVAL])} prompts"
        yield judge(bar, ratio, is_quick=is_quick, note=note)
    failures = [why for some in found.values() for one in some for why in one.failures]
    num = sum(map(len, found.values()))
    yield judge(FAILED, exactly(len(failures)), note="; ".join([f"of {num}", *failures]))


def unmeasured(why: str) -> list[Check]:
    """Every bar, for a run that can measure none."""
    return [not_measured(bar, why) for bar in (*BARS.values(), FAILED)]


def tables(found: Arms) -> list[Table]:
    """All there is to say."""
    return [
        _times(found),
        _loops(found),
        _features(found),
        _parts(found),
        _growth(found),
        _costs(found),
        _prompts(found),
    ]


def dominant(some: Sequence[Measured], span: str) -> str:
    """Say in words where the time goes, the greatest share first."""
    parts = _spent(some, span)
    whole = sum(parts.values())
    shares = sorted(((seconds / whole, name) for name, seconds in parts.items()), reverse=True)
    return ", ".join(f"{share:.0%} {name}" for share, name in shares if share >= 0.01)


def _times(found: Arms) -> Table:
    rows: list[tuple[str | float | int | None, ...]] = []
    theirs, plain = found[RIVAL], found[NONE.name]
    for name, some in found.items():
        spans: list[float | int | None] = []
        for span, of in SPANS.items():
            times = [of(one) for one in some]
            spans += [float(np.quantile(times, share)) for share in (0.5, 0.95)]
            ratio = ratio_of(some, theirs, span)
            spans += [ratio.value, *ends(ratio)]
        same = sum(one.text == two.text for one, two in zip(some, plain, strict=True))
        cached = sum(one.cached_tokens for one in some) / sum(one.prompt_tokens for one in some)
        by_datagrams = fmean(one.by_datagrams for one in some)
        rows.append((name, len(some), *spans, cached, by_datagrams, same))
    columns = (
        *("arm", "prompts"),
        *(
            f"{span} {what}"
            for span in SPANS
            for what in ("p50 s", "p95 s", "of the rival's", "from", "to")
        ),
        *("cached share", "text by datagrams", f"same text as {NONE.name}"),
    )
    return Table("From the last key to the text on the screen", columns, tuple(rows))


def _loops(found: Arms) -> Table:
    rows: list[tuple[str | float | int | None, ...]] = []
    kinds = {
        "all": found,
        "do not loop": apart(found, is_looping=False),
        "loop": apart(found, is_looping=True),
    }
    for kind, kept in kinds.items():
        ours, theirs = kept[ALL.name], kept[RIVAL]
        for span in SPANS if ours else ():
            ratio = ratio_of(ours, theirs, span)
            rows.append((kind, len(ours), span, ratio.value, *ends(ratio)))
    columns = ("answers", "prompts", "token", "of the rival's", "from", "to")
    title = "All of ours beside the rival, where its answers loop and where not"
    return Table(title, columns, tuple(rows))


def _features(found: Arms) -> Table:
    """Blocks are prompts: with each, a feature is on and off beside four states of the others."""
    rows: list[tuple[str | float | int | None, ...]] = []
    for feature in Features.__struct_fields__:
        on = [arm for arm in ARMS if getattr(arm, feature)]
        for span, of in SPANS.items():
            logs = [
                [math.log(of(one) / of(two)) for one, two in zip(*both, strict=True)]
                for both in ((found[arm.name], found[_without(arm, feature)]) for arm in on)
            ]
            blocks = list(zip(*logs, strict=True))
            ratio = over_blocks(
                blocks, lambda drawn: math.exp(fmean(each for block in drawn for each in block))
            )
            alone = NONE.name, feature
            last = _without(ALL, feature), ALL.name
            parts = (ratio_of(found[two], found[one], span).value for one, two in (alone, last))
            rows.append((feature, span, ratio.value, *ends(ratio), *parts))
    columns = ("feature", "token", "on / off", "from", "to", "alone", "beside the others")
    return Table("What each feature is worth: ratios of times, on over off", columns, tuple(rows))


def _without(arm: Features, feature: str) -> str:
    others = {name: getattr(arm, name) for name in Features.__struct_fields__ if name != feature}
    return Features(**others, **{feature: False}).name


def _spent(some: Sequence[Measured], span: str) -> dict[str, float]:
    """Mean seconds of each part of a span.

    What is outside the server is what its own clock does not see: the link, both kernels, the
    client, and in the gateway what is behind the engine.
    """
    parts = dict.fromkeys(_PARTS, 0.0)
    for one in some:
        stages_s = {
            "gateway and tokenising": sum(one.stages_s.get(stage, 0.0) for stage in _GATEWAY),
            "queue": one.stages_s.get("queue", 0.0),
            "prefill": one.stages_s["prefill"],
            "decode": one.stages_s["decode"] if span == "last" else 0.0,
        }
        stages_s["outside the server"] = max(0.0, SPANS[span](one) - sum(stages_s.values()))
        for name, seconds in stages_s.items():
            parts[name] += seconds / len(some)
    return parts


def _parts(found: Arms) -> Table:
    rows: list[tuple[str | float | int | None, ...]] = []
    for name, some in found.items():
        for span in SPANS:
            parts = _spent(some, span)
            rows.append((name, span, sum(parts.values()), *parts.values()))
    columns = ("arm", "token", "all s", *(f"{part} s" for part in _PARTS))
    return Table("Where the time goes, means", columns, tuple(rows))


def _growth(found: Arms) -> Table:
    rows: Rows = tuple(
        (name, *(float(np.median([one.until(share) for one in some])) for share in _SHARES))
        for name, some in found.items()
    )
    columns = ("arm", *(f"{share:.0%} s" for share in _SHARES))
    return Table("How an answer grows: median seconds to a share of its text", columns, rows)


def _costs(found: Arms) -> Table:
    rows: list[tuple[str | float | int | None, ...]] = []
    for name, some in found.items():
        committed = sum(one.prompt_tokens for one in some)
        packets = sum(one.down_packets for one in some)
        drafted = [one for one in some if one.steps]
        rows.append(
            (
                name,
                fmean(one.engine_s for one in some),
                fmean(one.ahead_s for one in some),
                fmean(one.stages_s["prefill"] for one in some),
                fmean(one.stages_s["decode"] for one in some),
                sum(one.ahead_tokens for one in some) / committed,
                sum(one.wasted_tokens for one in some) / committed,
                sum(one.drafted for one in some),
                sum(one.accepted for one in some),
                len(drafted),
                packets,
                sum(one.down_lost for one in some) / packets,
                fmean(one.down_bytes for one in some),
                1e3 * max(one.late_p99_s for one in some),
            )
        )
    columns = (
        *("arm", "engine s", "ahead s", "prefill s", "decode s"),
        *("computed ahead/token", "waste/token", "drafted", "accepted", "answers with drafts"),
        *("packets down", "of them lost", "bytes down", "link late p99 ms"),
    )
    return Table("What it costs, means of a prompt", columns, tuple(rows))


def _prompts(found: Arms) -> Table:
    rows: Rows = tuple(
        (
            theirs.prompt,
            ours.prompt_tokens,
            ours.cached_tokens,
            ours.typed_s,
            theirs.first_s,
            ours.first_s,
            theirs.last_s,
            ours.last_s,
        )
        for ours, theirs in zip(found[ALL.name], found[RIVAL], strict=True)
    )
    columns = (
        *("prompt", "tokens", "of them ready", "typed s"),
        *("rival's first s", "our first s", "rival's last s", "our last s"),
    )
    return Table("Each prompt: all of ours beside the rival", columns, rows)
