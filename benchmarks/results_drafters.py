"""docs/results/drafters.md: what drafters by language buy, from `evaluate`'s own files.

Every figure on the page is put there by this code. What is missing is said to be missing.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.benchmarks.checks import Check, Verdict
from headstart.benchmarks.consistency_runs import fitted
from headstart.benchmarks.drafters_bars import ACCEPTED, KINDS, Asked, judged, ratios
from headstart.benchmarks.drafters_runs import Evaluation, by_set, curves, load
from headstart.benchmarks.estimates import Estimate
from headstart.benchmarks.evaluations import write_page
from headstart.benchmarks.results_curves import gain_by_tokens
from headstart.benchmarks.results_text import folded, grid, interval, plain
from headstart.stages.errors import SetupError

__all__ = ["run"]

HEAD = """\
Made by `headstart results drafters --from DIR` from what `headstart recipe drafter evaluate` and
`headstart bench language` left there; [recipes/drafters.md](../recipes/drafters.md) says how each
figure is measured. Answers that loop are left out of all of them, and counted.
"""
LENGTHS = """\
Tokens a step, the target's own among them, with half of the 95 % interval over answers. *F*: made
of the target's answers; *PF*: of answers and text; *generic*: of the text alone; *wrong*: another
language's *PF*; `table-` before tables.
"""
ACROSS = """\
*de* is the neural drafter of German prompts, *table-de* their table, each of answers and text.
"""
SPEEDS = """\
Times the tokens a second of plain decoding in the same engine, the arms in turn, prompt by prompt.
"""
_IN_WORDS = {"heldout": "In-language questions and translations, of text that was held out"}
FEW_POINTS = 4
ROUTER = "language.json"
_SHOWN = ("name", "value", "bar", "better", "unit", "verdict", "low", "high")


def run(source: Path, target: Path) -> int:
    """Write the page, its plots and what they are made of.

    Args:
        source: Folder with what `evaluate` left, at any depth, and the router's language.json.
        target: Folder of the page.

    Raises:
        SetupError: There is no evaluation in `source`.
    """
    evaluations = load(source)
    target.mkdir(parents=True, exist_ok=True)
    lines = ["# Drafters by language", "", HEAD]
    for name, found in by_set(each for each in evaluations if each.is_of_roles).items():
        lines += _set(name, found)
    lines += _languages(evaluations)
    router = _router_tree(source)
    lines += _router(router)
    lines += _curves(evaluations, target)
    lines += _sources(evaluations)
    trees = {each.name: each.tree for each in evaluations}
    write_page(target / "drafters.md", lines, trees)
    if router is not None:
        (target / "data" / ROUTER).write_text(json.dumps(router) + "\n")
    return 0


def _set(name: str, found: Mapping[str, Evaluation]) -> Iterator[str]:
    yield from (f"## {_IN_WORDS.get(name, name)}", "")
    yield from _bars(list(judged(found)))
    temperatures = sorted({each for one in found.values() for each in one.tree["replayed"]})
    for temperature in temperatures:
        yield from (f"### Tokens a step, T = {temperature}", "")
        parts = {key: one.tree["replayed"].get(temperature, {}) for key, one in found.items()}
        yield from _by_language(parts, _length)
        loops = {key: one.tree["looping_answers"].get(temperature) for key, one in found.items()}
        yield from ("", f"Answers that loop: {_listed(loops)}.", "")
    yield LENGTHS
    for temperature in temperatures:
        drawn = float(temperature)
        parts = {key: ratios(one, drawn) for key, one in found.items()}
        yield from (f"### Tokens a second, T = {temperature}", "")
        if any(parts.values()):
            loops = {key: one.num_looping(drawn) for key, one in found.items() if parts[key]}
            yield from (*_by_language(parts, _speed), "")
            yield from (f"Turns with an answer that loops: {_listed(loops)}.", "", SPEEDS)
        else:
            yield from ("Not in these results: `evaluate --timed` measures it.", "")


def _languages(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    yield from ("## Each language's drafter on the prompts of each", "")
    sets = by_set(each for each in evaluations if each.is_of_languages)
    for name, found in sets.items():
        parts = {
            key: {arm: one.tree["replayed"].get("0.0", {}).get(arm) for arm in one.tree["kinds"]}
            for key, one in found.items()
        }
        yield from (
            f"Tokens a step on {_IN_WORDS.get(name, name)}, T = 0, by language of the prompts:",
            "",
        )
        yield from (*_by_language(parts, _length), "")
    if sets:
        yield ACROSS
    else:
        yield from ("Not in these results: `evaluate` with arms called by languages.", "")


def _by_language(parts: Mapping[str, Mapping[str, Any]], cell: Any) -> Iterator[str]:
    arms = dict.fromkeys(arm for part in parts.values() for arm in part)
    rows = [(arm, *(cell(part.get(arm)) for part in parts.values())) for arm in arms]
    yield from grid(("arm", *parts), rows)


def _length(figures: Mapping[str, Any] | None) -> str:
    if figures is None or figures["accepted_length"] is None:
        return "-"
    half = figures["half_width"]
    return f"{figures['accepted_length']:.2f}" + ("" if half is None else f" ± {half:.2f}")


def _speed(ratio: Estimate | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio.value:.2f}" + (f" ({_ends(ratio)})" if math.isfinite(ratio.low) else "")


def _ends(estimate: Estimate) -> str:
    return interval(estimate.low, estimate.high) if math.isfinite(estimate.half_width) else "-"


def _bars(found: Sequence[Asked]) -> Iterator[str]:
    rows = [
        (
            asked.title,
            f"≥ {asked.bar.limit:g} in {asked.needed} of {len(asked.checks)}"
            if asked.bar.limit != 1
            else f"> 1 in {asked.needed} of {len(asked.checks)}",
            *(str(sum(each.verdict is one for each in asked.checks.values())) for one in Verdict),
            _said(asked.verdict),
        )
        for asked in found
    ]
    words = (one.replace("_", " ") for one in Verdict)
    yield from (*grid(("bar", "asked", *words, "verdict"), rows), "")
    each = [
        (asked.title, where, *_check(check))
        for asked in found
        for where, check in asked.checks.items()
    ]
    columns = ("bar", "where", "value", "95 %", "answers", "verdict")
    yield from folded("Each language", grid(columns, each))


def _check(check: Check) -> tuple[str, str, str, str]:
    estimate = check.estimate
    if estimate is None:
        return "-", "-", "-", _said(check.verdict)
    return plain(estimate.value), _ends(estimate), str(estimate.num_blocks), _said(check.verdict)


def _said(verdict: Verdict) -> str:
    words = verdict.replace("_", " ")
    return f"**{words}**" if verdict is Verdict.FAILS else words


def _listed(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _router_tree(source: Path) -> dict[str, Any] | None:
    """Return what is shown of the router's benchmark; None where it was not run."""
    for path in sorted(source.rglob(ROUTER)):
        try:
            tree = json.loads(path.read_bytes())
            return {
                "checks": [{name: each[name] for name in _SHOWN} for each in tree["checks"]],
                "date": tree["date"],
                "machine": {"cpu": tree["machine"]["cpu"]},
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SetupError(f"{path} is none of `bench language`'s: {error!r}") from error
    return None


def _router(tree: Mapping[str, Any] | None) -> Iterator[str]:
    yield from ("## The router", "")
    if tree is None:
        yield from ("Not in these results: `headstart bench language` measures it.", "")
        return
    rows = [_router_row(each) for each in tree["checks"]]
    yield from (*grid(("bar", "value", "95 %", "asked", "verdict"), rows), "")
    yield from (f"Measured {str(tree['date'])[:16]} on {tree['machine']['cpu']}.", "")


def _router_row(check: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(check["name"]),
        plain(check["value"]),
        interval(check["low"], check["high"]),
        f"{'≤' if check['better'] == 'lower' else '≥'} {plain(check['bar'])} {check['unit']}",
        _said(Verdict(check["verdict"])),
    )


def _curves(evaluations: Sequence[Evaluation], target: Path) -> Iterator[str]:
    yield from ("## Gain over tokens learned", "")
    found = list(curves(evaluations))
    if not found:
        yield from ("Not in these results: no evaluation has drafters of several budgets.", "")
    for one, kind, points in found:
        fit = fitted(points)
        path = target / f"drafters-{one.language}-{kind}-tokens.svg"
        gain_by_tokens(
            [(each.tokens, each.gain) for each in points],
            path,
            line=fit.gain if fit is not None else None,
            base=None,
            bar=ACCEPTED.limit,
        )
        words = f"{KINDS[kind]}, {one.language}"
        yield from (f"![Tokens a step over tokens learned: {words}]({path.name})", "")
        yield from (f"{words[0].upper()}{words[1:]}:", "")
        rows = [(f"{each.tokens:,}", plain(each.gain)) for each in points]
        yield from (*grid(("tokens learned", "tokens/step"), rows), "")
        enough = _said(Verdict.HOLDS if len(points) >= FEW_POINTS else Verdict.FAILS)
        yield f"{len(points)} points, asked ≥ {FEW_POINTS}: {enough}."
        if fit is not None:
            falls = fit.tokens(ACCEPTED.limit)
            where = "at no budget in sight" if falls is None else f"at {falls:.2g} tokens"
            yield (
                f"Ten times the tokens bring {fit.per_decade:.2f} ± {fit.half_width:.2f} tokens a "
                f"step more (95 %); {ACCEPTED.limit} is reached {where}, if the line goes on."
            )
        yield ""


def _sources(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    yield from ("## Where the figures come from", "")
    shown = ("language", "asked", "prompts", "date", "machine", "dtype", "draft_tokens")
    rows = [(one.name, *(plain(one.tree.get(each)) for each in shown)) for one in evaluations]
    names = ("evaluation", "language", "set", "prompts", "UTC", "measured on", "dtype")
    yield from (*grid((*names, "most drafted"), rows), "")
