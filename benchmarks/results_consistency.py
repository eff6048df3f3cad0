"""docs/results/consistency.md: what consistency training buys, from `evaluate`'s own files.

Every figure on the page is put there by this code. What is missing is said to be missing.
"""

import json
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from headstart.benchmarks.consistency_bars import bars, share_right
from headstart.benchmarks.consistency_runs import (
    BARS,
    Evaluation,
    Fit,
    Run,
    best_of,
    by_domain,
    fitted,
    load,
    main_runs,
)
from headstart.benchmarks.evaluations import write_page
from headstart.benchmarks.results_curves import gain_by_batch, gain_by_tokens
from headstart.benchmarks.results_text import folded, grid, plain

__all__ = ["run"]

HEAD = """\
Made by `headstart results consistency --from DIR` from what `headstart recipe consistency evaluate`
left there; [recipes/consistency.md](../recipes/consistency.md) says how each figure is measured.
A tuned model is another model than its base: *right* and *perplexity* say what its gain cost.
Tokens a step and tokens a second are those of answers that do not loop.
"""
ARMS = (
    *("arm", "answers", "tokens/step", "unsaid", "step cost", "tokens/s plain", "tokens/s Jacobi"),
    *("speed-up", "fast-forwarded", "stationary", "right", "perplexity", "looping", "differ"),
)
COLUMNS = """\
Speeds are of decoding in which each step is a Jacobi step; served, the controller decides which
are. *Unsaid*: tokens a step as if each of a draft that began with what had been said before, which
copying finds, too, had taken a step of its own. *Step cost*: a Jacobi step's time in the model
against a plain step's. *Fast-forwarded* tokens an iteration and *stationary* ones a block, as
CLLM's paper counts. *Perplexity* on the base's own answers. *Differ*: answers that are not those of
plain decoding by the same weights.
"""


def run(source: Path, target: Path) -> int:
    """Write the page, its plots and what they are made of.

    Args:
        source: Folder with what `evaluate` left, at any depth.
        target: Folder of the page.

    Raises:
        SetupError: There is no evaluation in `source`.
    """
    evaluations = load(source)
    target.mkdir(parents=True, exist_ok=True)
    lines = ["# Consistency training", "", HEAD]
    for number, (domain, some) in enumerate(by_domain(evaluations).items(), start=1):
        lines += _domain(f"consistency-{number}", domain, some, target)
    lines += _sources(evaluations)
    trees = {each.name: each.tree for each in evaluations}
    write_page(target / "consistency.md", lines, trees, indent=1)
    return 0


def _domain(name: str, domain: str, some: Sequence[Evaluation], target: Path) -> Iterator[str]:
    curve, others = main_runs(some)
    best = best_of(some, curve)
    fit = fitted(curve)
    yield from (f"## {domain}", "")
    arms = best.arms if curve else _all_arms(some)
    yield from grid(ARMS, [_arm(arm, figures) for arm, figures in arms.items()])
    yield ""
    yield from (f"- **{arm}**: {_weights(figures)}" for arm, figures in arms.items())
    yield from ("", COLUMNS)
    yield from bars(best, curve, fit, some)
    yield from _scaling(name, best, curve, fit, target)
    yield from _ablation(curve, others)
    yield from _batches(name, best, target)


def _all_arms(evaluations: Sequence[Evaluation]) -> dict[str, dict[str, Any]]:
    """Return the arms of all evaluations, the same weights by as many answers once."""
    found = {}
    known = set()
    for each in evaluations:
        for arm, figures in each.arms.items():
            key = figures.get("fingerprint", (each.name, arm)), figures.get("answers")
            if key not in known:
                known.add(key)
                found[f"{each.name}, {arm}" if len(evaluations) > 1 else arm] = figures
    return found


def _arm(name: str, figures: dict[str, Any]) -> tuple[str, ...]:
    part = figures.get("not_looping", {})
    looping = figures.get("looping", {}).get("answers", 0)
    right = share_right(figures)
    shown = ("step_cost", "tokens_per_s_plain", "tokens_per_s_jacobi", "speedup")
    own = ("fast_forwarded", "stationary_per_block")
    return (
        *(name, plain(figures.get("answers"))),
        *(_with_interval(part, each) for each in ("tokens_per_step", "tokens_per_step_unsaid")),
        *(plain(part.get(each)) for each in shown),
        *(plain(figures.get(each)) for each in own),
        *(right, plain(figures.get("perplexity_on_base")), plain(looping)),
        plain(figures.get("answers_that_differ")),
    )


def _with_interval(part: dict[str, Any], name: str) -> str:
    interval = part.get(f"{name}_95")
    ends = f" ({plain(interval[0])}-{plain(interval[1])})" if interval is not None else ""
    return plain(part.get(name)) + ends


def _weights(figures: dict[str, Any]) -> str:
    """Say what an arm's weights are, and what they were trained on, as far as is known."""
    made: dict[str, Any] | None = figures.get("training")
    name: str | None = figures.get("weights")
    if name is None and made is not None and (model := made["options"].get("model")):
        how = " with an adapter" if made["options"].get("lora_rank") else ", all weights tuned"
        name = model + how
    ways: list[str] = []
    is_known = True
    while made is not None:
        samples, method = _count(made["samples"]), made["options"].get("method", "training")
        tokens, minutes = _count(made["tokens"]), plain(made["minutes"])
        ways.insert(0, f"{tokens} tokens of {method} ({samples} samples, {minutes} min)")
        is_known, made = "begun_from" in made, made.get("begun_from")
    said = [name or "these results do not say which"]
    said += [", then ".join(ways)] if ways else []
    said += [] if is_known else ["of earlier training these results do not tell"]
    return "; ".join(said)


def _scaling(
    name: str, best: Evaluation, curve: Sequence[Run], fit: Fit | None, target: Path
) -> Iterator[str]:
    yield from ("### Gain over training tokens", "")
    if not curve:
        yield from ("Not in these results: no speed of weights that say what taught them.", "")
        return
    base = best.arms["base"].get("not_looping", {}).get("tokens_per_step")
    path = target / f"{name}-tokens.svg"
    gain_by_tokens(
        [(run.tokens, run.gain) for run in curve],
        path,
        line=fit.gain if fit is not None else None,
        base=base,
        bar=BARS.get(best.asked["metric"]),
    )
    yield from (f"![Tokens a step over training tokens]({path.name})", "")
    rows = [("base", "-", plain(base), "-", share_right(best.arms["base"]), "-")]
    for each in curve:
        training = each.figures["training"]
        rows.append(
            (
                *(_count(each.tokens), plain(training["samples"]), plain(each.gain)),
                plain(each.figures["not_looping"].get("speedup")),
                *(share_right(each.figures), plain(training["minutes"])),
            )
        )
    columns = ("training tokens", "samples", "tokens/step", "speed-up", "right", "minutes")
    yield from (*grid(columns, rows), "")
    if fit is None:
        yield from ("Fewer than three budgets: nothing is fitted.", "")
        return
    last = curve[-1].tokens
    yield (
        f"Ten times the tokens bring {fit.per_decade:.2f} ± {fit.half_width:.2f} tokens a step "
        f"more (95 %, a straight line over the logarithm of tokens): {fit.gain(10 * last):.2f} at "
        f"{_count(10 * last)} tokens, if the line goes on."
    )
    yield ""


def _ablation(curve: Sequence[Run], others: Sequence[Run]) -> Iterator[str]:
    yield from ("### Ablation", "")
    if not others:
        yield from ("Not in these results: no other way to train was evaluated.", "")
        return
    meant = curve[-1].varied
    known = ", ".join(f"{name} {value}" for name, value in meant.items())
    rows = []
    for each in sorted(others, key=lambda run: (json.dumps(run.varied), run.tokens)):
        changed = {name: value for name, value in each.varied.items() if value != meant[name]}
        rows.append(
            (
                ", ".join(f"{name} {value}" for name, value in changed.items()),
                *(_count(each.tokens), plain(each.gain), plain(_between(curve, each.tokens))),
                *(share_right(each.figures), plain(each.figures.get("perplexity_on_base"))),
            )
        )
    columns = (
        "changed",
        "training tokens",
        "tokens/step",
        "the curve there",
        "right",
        "perplexity",
    )
    yield from (*grid(columns, rows), "")
    yield from folded("What nothing of is changed", iter([known]))


def _between(curve: Sequence[Run], tokens: int) -> float | None:
    """Return the curve's gain at a budget, on the line between its neighbours."""
    for one, other in pairwise(curve):
        if one.tokens <= tokens <= other.tokens:
            share = math.log(tokens / one.tokens) / math.log(other.tokens / one.tokens)
            return one.gain + share * (other.gain - one.gain)
    same = [run.gain for run in curve if abs(run.tokens / tokens - 1) < 0.02]
    return same[0] if same else None


def _batches(name: str, best: Evaluation, target: Path) -> Iterator[str]:
    yield from ("### Gain over answers at once", "")
    series = {
        arm: figures["by_batch"] for arm, figures in best.arms.items() if "by_batch" in figures
    }
    if not series:
        yield from ("Not in these results: `evaluate --batches 1,2,4,8,16` measures it.", "")
        return
    path = target / f"{name}-batches.svg"
    gain_by_batch(series, path)
    yield from (f"![Speed-up over answers at once]({path.name})", "")
    yield "The engine as it serves: it drafts as much as pays."
    shown = ("batch", "answers", "tokens_per_step", "tokens_per_s_plain", "tokens_per_s_jacobi")
    rows = [
        (arm, *(plain(row[each]) for each in (*shown, "speedup")))
        for arm, some in series.items()
        for row in some
    ]
    yield "Tokens a second are of all answers together, the time that their prompts take included."
    names = ("arm", "at once", "answers", "tokens/step", "tokens/s plain", "tokens/s Jacobi")
    yield from ("", *grid((*names, "speed-up"), rows), "")


def _sources(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    yield from ("## Where the figures come from", "")
    rows = []
    for each in evaluations:
        asked = each.asked
        for arm, figures in each.arms.items():
            training = figures.get("training")
            made = training["machine"] if training else "-"
            where = (plain(figures.get("date")), plain(figures.get("machine")))
            how = f"{asked['engine']}, {asked['dtype']}, block of {asked['block_tokens']}"
            rows.append((each.name, arm, *where, how, made))
    columns = ("evaluation", "arm", "UTC", "measured on", "how", "trained on")
    yield from (*grid(columns, rows), "")


def _count(tokens: int) -> str:
    return f"{tokens:,}"
