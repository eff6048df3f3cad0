"""An arm of `evaluate`, decoded with and without Jacobi steps: by the engine, or untimed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from headstart.recipes.answering import ENGINES, Question, greedy
from headstart.recipes.decoding import jacobi_answers
from headstart.recipes.models import Chat, device_of, load
from headstart.recipes.options import option
from headstart.recipes.prompts import METRICS, batches
from headstart.stages.errors import SetupError
from headstart.stages.looping import is_looping

if TYPE_CHECKING:
    from headstart.stages.speculation_counts import SpeculationCounts

__all__ = ["EvaluateOptions", "by_engine", "by_transformers", "sizes_of"]

_TURN = 8
"""Answers one way before the other way's turn."""
_LEAST_FOR_INTERVAL = 10
_TIMED_ANSWERS = 16
"""Least that are timed at each number of answers at once."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What `evaluate` is told."""

    model: str = option("the base: a folder, a Hugging Face id, or builtin:NAME")
    prompts: Path = option("file of prompts that none was trained on")
    out: Path = option("folder for the results, arm by arm")
    adapter: Path | None = option("what is to be judged: an adapter of the base", None)
    tuned: str | None = option("or a model of its own", None)
    rival: Path | None = option("another adapter beside it, such as CLLM's own loss", None)
    like: Path | None = option("evaluation of the same base, which is not measured again", None)
    seen: bool = option("take prompts that were trained on, too", False)
    metric: str = option("what makes an answer right", "none", METRICS)
    first: int = option("first line of the prompts", 0)
    num: int | None = option("how many lines; unset: all", None)
    max_tokens: int = option("longest answer", 256)
    block_tokens: int = option("length of a Jacobi block, its known token included", 16)
    engine: str = option("what decodes; only vLLM, the server's, is timed", "auto", ENGINES)
    batch: int = option("answers at once; 1 is what tokens a second of a stream mean", 1)
    batches: str = option("also time so many answers at once, such as 1,2,4,8,16", "")
    pack_batch: int = option("answers at once where nothing is timed", 4)
    seed: int = option("of the trajectories' first guesses", 0)
    device: str = option("auto, cpu or cuda, for what vLLM does not do", "auto")
    dtype: str = option("of the weights", "bfloat16", ("bfloat16", "float32"))


@dataclass(slots=True)
class _Timed:
    """Answers that loop, or those that do not, decoded both ways."""

    num: int = 0
    plain_tokens: int = 0
    plain_s: float = 0.0
    jacobi_tokens: int = 0
    jacobi_s: float = 0.0
    counts: list["SpeculationCounts"] = field(default_factory=list)


def by_engine(
    options: EvaluateOptions, chat: Chat, folder: Path, asked: list[list[int]]
) -> tuple[dict[str, Any], list[list[int]]]:
    """Decode in the server's own engine, with its own worker, and time it.

    Both ways take turns, a few answers at a time.

    Returns:
        Figures, and the plain answers.
    """
    from headstart.recipes.engine import Engine

    sizes = sizes_of(options)
    plain: list[list[int]] = []
    plain_counts: list[SpeculationCounts] = []
    groups = {"not_looping": _Timed(), "looping": _Timed()}
    different = 0
    questions = [Question(prompt) for prompt in asked]
    with Engine(
        folder,
        dtype=options.dtype,
        speculation=_speculation(options, is_adaptive=False),
        max_model_len=max(map(len, asked)) + options.max_tokens,
    ) as engine:
        engine.answer(questions[:1], 16, "jacobi")  # what is slow the first time
        engine.answer(questions[:1], 16, "off")
        for turn in batches(range(len(asked)), max(_TURN, options.batch)):
            chosen: dict[str, list[int]] = {name: [] for name in groups}
            for some in batches(turn, options.batch):
                done = engine.answer([questions[n] for n in some], options.max_tokens, "off")
                plain_counts.append(_counts(done))
                for number, answer, seconds in zip(some, done.answers, done.decode_s, strict=True):
                    name = "looping" if is_looping(answer) else "not_looping"
                    chosen[name].append(number)
                    plain.append(answer)
                    groups[name].plain_tokens += len(answer) - 1
                    groups[name].plain_s += seconds
            for name, numbers in chosen.items():
                timed = groups[name]
                for some in batches(numbers, options.batch):
                    done = engine.answer([questions[n] for n in some], options.max_tokens, "jacobi")
                    timed.num += len(some)
                    timed.counts.append(_counts(done))
                    timed.jacobi_s += sum(done.decode_s)
                    timed.jacobi_tokens += sum(len(answer) - 1 for answer in done.answers)
                    pairs = zip(some, done.answers, strict=True)
                    different += sum(answer != plain[n] for n, answer in pairs)
    figures: dict[str, Any] = {"answers_that_differ": different}
    for name, timed in groups.items():
        if timed.num:
            figures[name] = _told(timed, plain_counts, options.seed)
    fit = [tokens for tokens, answer in zip(asked, plain, strict=True) if not is_looping(answer)]
    if sizes and fit:
        figures["by_batch"] = _by_batch(options, folder, fit, sizes)
    return figures, plain


def _counts(done: Any) -> "SpeculationCounts":
    assert done.counts is not None
    return done.counts  # type: ignore[no-any-return]


def _told(timed: _Timed, plain: Sequence["SpeculationCounts"], seed: int) -> dict[str, Any]:
    before, after = timed.plain_tokens / timed.plain_s, timed.jacobi_tokens / timed.jacobi_s
    return {
        "answers": timed.num,
        "tokens_per_step": _gain(timed.counts),
        "tokens_per_step_95": _interval(timed.counts, seed),
        "step_cost": _step_s(timed.counts) / _step_s(plain),
        "tokens_per_s_plain": before,
        "tokens_per_s_jacobi": after,
        "speedup": after / before,
    }


def _gain(parts: Sequence["SpeculationCounts"]) -> float:
    """Return tokens a step."""
    return sum(each.tokens for each in parts) / max(1, sum(each.rows for each in parts))


def _interval(parts: Sequence["SpeculationCounts"], seed: int) -> list[float] | None:
    """Return the ends of its 95 % interval, by a bootstrap over what was asked together."""
    if len(parts) < _LEAST_FOR_INTERVAL:
        return None
    random = np.random.default_rng(seed)
    drawn = random.integers(len(parts), size=(1000, len(parts)))
    tokens = np.array([each.tokens for each in parts])
    rows = np.array([each.rows for each in parts])
    gains = tokens[drawn].sum(axis=1) / rows[drawn].sum(axis=1)
    return [float(each) for each in np.quantile(gains, (0.025, 0.975))]


def _step_s(parts: Sequence["SpeculationCounts"]) -> float:
    """Return what a step takes in the model and the sampler, drafts not counted."""
    spent = sum(each.verify_s + each.plain_s for each in parts)
    return spent / max(1, sum(each.steps for each in parts))


def sizes_of(options: EvaluateOptions) -> list[int]:
    """Return the numbers of answers at once that are timed.

    Raises:
        SetupError: They are no numbers.
    """
    try:
        sizes = [int(each) for each in options.batches.split(",") if each.strip()]
    except ValueError:
        sizes = [0]
    if any(size < 1 for size in sizes):
        raise SetupError("--batches takes numbers with commas between them, such as 1,2,4,8,16")
    return sizes


def _speculation(options: EvaluateOptions, *, is_adaptive: bool) -> Any:
    """Jacobi steps, of settings that a machine without the server's packages lacks."""
    from headstart.configs.speculation import SpeculationSettings

    return SpeculationSettings(
        block_tokens=options.block_tokens,
        max_tokens=min(64, options.block_tokens - 1),
        is_adaptive=is_adaptive,
    )


def _by_batch(
    options: EvaluateOptions, folder: Path, asked: list[list[int]], sizes: list[int]
) -> list[dict[str, Any]]:
    """Time the engine as it serves, drafting what pays, with so many answers always under way."""
    from headstart.recipes.engine import Engine

    rows = []
    questions = [Question(prompt) for prompt in asked]
    with Engine(
        folder,
        dtype=options.dtype,
        speculation=_speculation(options, is_adaptive=True),
        max_model_len=max(map(len, asked)) + options.max_tokens,
    ) as engine:
        for mode in ("jacobi", "off"):
            engine.answer(questions[:1], 16, mode)  # what is slow the first time
        for number, size in enumerate(tqdm(sizes, desc="batches")):
            some = [questions[n % len(questions)] for n in range(max(_TIMED_ANSWERS, 2 * size))]
            row: dict[str, Any] = {"batch": size, "answers": len(some)}
            # Which comes first changes, so that neither has always the warmer machine.
            for mode in ("off", "jacobi")[:: 1 if number % 2 else -1]:
                done = engine.answer(some, options.max_tokens, mode, at_once=size)
                name = "plain" if mode == "off" else "jacobi"
                row[f"tokens_per_s_{name}"] = sum(map(len, done.answers)) / max(done.last_s)
                if mode == "jacobi":
                    row["tokens_per_step"] = _gain([_counts(done)])
            row["speedup"] = row["tokens_per_s_jacobi"] / row["tokens_per_s_plain"]
            rows.append(row)
    return rows


def by_transformers(
    options: EvaluateOptions, chat: Chat, folder: Path, asked: list[list[int]]
) -> tuple[dict[str, Any], list[list[int]]]:
    """Decode with the server's proposer, untimed."""
    model = load(folder, device_of(options.device), options.dtype).eval()
    plain: list[list[int]] = []
    decoded = []
    for some in batches(asked, options.pack_batch):
        plain += greedy(model, chat, some, options.max_tokens)
        decoded += jacobi_answers(
            model,
            some,
            chat.ends,
            max_tokens=options.max_tokens,
            block_tokens=options.block_tokens,
        )
    figures: dict[str, Any] = {}
    for name, loops in (("not_looping", False), ("looping", True)):
        chosen = [
            one for one, other in zip(decoded, plain, strict=True) if is_looping(other) == loops
        ]
        if chosen:
            tokens = sum(len(each.answer) for each in chosen)
            figures[name] = {
                "answers": len(chosen),
                "tokens_per_step": tokens / sum(each.steps for each in chosen),
            }
    figures["answers_that_differ"] = sum(
        one.answer != other for one, other in zip(decoded, plain, strict=True)
    )
    return figures, plain
