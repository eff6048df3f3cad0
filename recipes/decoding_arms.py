"""An arm of `evaluate`, decoded with and without Jacobi steps: by the engine, or untimed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from headstart.recipes.answering import ENGINES, Question, greedy
from headstart.recipes.decoding import jacobi_answers
from headstart.recipes.decoding_figures import GROUPS, Part, figures_of
from headstart.recipes.models import Chat, device_of, load
from headstart.recipes.options import option
from headstart.recipes.prompts import METRICS, batches
from headstart.recipes.samples import Lines
from headstart.stages.drafting import Source
from headstart.stages.errors import SetupError
from headstart.stages.jacobi import SAID_GRADE
from headstart.stages.looping import is_looping

if TYPE_CHECKING:
    from headstart.stages.speculation_counts import SpeculationCounts

__all__ = ["EvaluateOptions", "by_engine", "by_transformers", "sizes_of"]

_TURN = 8
"""Answers one way before the other way's turn."""
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
    metric_only: bool = option("say how many answers are right, and nothing else", False)
    metric: str = option("what makes an answer right", "none", METRICS)
    first: int = option("first line of the prompts", 0)
    num: int | None = option("how many lines; unset: all", None, least=1)
    max_tokens: int = option("longest answer", 256, least=1)
    block_tokens: int = option(
        "length of a Jacobi block, its known token included", 16, least=2, most=65
    )
    engine: str = option("what decodes; only vLLM, the server's, is timed", "auto", ENGINES)
    batch: int = option("answers at once; 1 is what tokens a second of a stream mean", 1, least=1)
    batches: str = option("also time so many answers at once, such as 1,2,4,8,16", "")
    pack_batch: int = option("answers at once where nothing is timed", 4, least=1)
    seed: int = option("of the trajectories' first guesses", 0)
    device: str = option("auto, cpu or cuda, for what vLLM does not do", "auto")
    dtype: str = option("of the weights", "bfloat16", ("bfloat16", "float32"))


def by_engine(
    options: EvaluateOptions, chat: Chat, folder: Path, asked: list[list[int]], notes: Path
) -> tuple[dict[str, Any], list[list[int]]]:
    """Decode in the server's own engine, with its own worker, and time it.

    Both ways take turns, a few answers at a time.

    Args:
        notes: Folder that keeps what is measured, turn by turn.

    Returns:
        Figures, and the plain answers.
    """
    sizes = sizes_of(options)
    turns = Lines(notes / "turns.jsonl")
    left = range(sum(len(turn["answers"]) for turn in turns), len(asked))
    if left:
        _take_turns(options, folder, asked, left, turns)
    figures, plain = figures_of(turns, options.seed)
    fit = [tokens for tokens, answer in zip(asked, plain, strict=True) if not is_looping(answer)]
    if sizes and fit:
        rows = Lines(notes / "batches.jsonl")
        measured = {row["batch"] for row in rows}
        if missing := [size for size in sizes if size not in measured]:
            _by_batch(options, folder, fit, missing, rows)
        figures["by_batch"] = sorted(rows, key=lambda row: int(row["batch"]))
    return figures, plain


def _take_turns(
    options: EvaluateOptions, folder: Path, asked: list[list[int]], left: range, turns: Lines
) -> None:
    from headstart.recipes.engine import Engine

    questions = [Question(prompt) for prompt in asked]
    with (
        tqdm(total=len(asked), initial=left.start, desc="decoded both ways", unit="prompt") as bar,
        Engine(
            folder,
            dtype=options.dtype,
            speculation=_speculation(options, is_adaptive=False),
            max_model_len=max(map(len, asked)) + options.max_tokens,
        ) as engine,
    ):
        engine.answer(questions[:1], 16, "jacobi")  # what is slow the first time
        engine.answer(questions[:1], 16, "off")
        for turn in batches(left, max(_TURN, options.batch)):
            turns.add([_turn(engine, options, questions, turn)])
            bar.update(len(turn))


def _turn(
    engine: Any, options: EvaluateOptions, questions: Sequence[Question], turn: Sequence[int]
) -> dict[str, Any]:
    """Answer some prompts one way, then the other."""
    plain: dict[int, list[int]] = {}
    parts: list[Part] = []
    groups = [*batches(turn, options.batch)]
    for some in groups:
        done = engine.answer([questions[n] for n in some], options.max_tokens, "off")
        plain |= zip(some, done.answers, strict=True)
        counts = _counts(done)
        parts.append(
            {
                "plain_tokens": sum(len(answer) - 1 for answer in done.answers),
                "plain_s": sum(done.decode_s),
                "plain_steps": _steps(counts),
                "plain_step_s": _step_s(counts),
            }
        )
    row: dict[str, Any] = {"answers": [plain[number] for number in turn], "different": 0}
    row |= {name: [] for name in GROUPS}
    for some, part in zip(groups, parts, strict=True):
        done = engine.answer([questions[n] for n in some], options.max_tokens, "jacobi")
        counts = _counts(done)
        part |= {"num": len(some), "tokens": counts.tokens, "rows": counts.rows}
        part |= {"steps": _steps(counts), "step_s": _step_s(counts), "said": _said(counts)}
        part["jacobi_s"] = sum(done.decode_s)
        part["jacobi_tokens"] = sum(len(answer) - 1 for answer in done.answers)
        # Both ways have the same answers at once: one that loops takes its whole batch along.
        loops = any(is_looping(plain[number]) for number in some)
        row["looping" if loops else "not_looping"].append(part)
        pairs = zip(some, done.answers, strict=True)
        row["different"] += sum(answer != plain[number] for number, answer in pairs)
    return row


def _counts(done: Any) -> "SpeculationCounts":
    assert done.counts is not None
    return done.counts  # type: ignore[no-any-return]


def _steps(counts: "SpeculationCounts") -> int:
    """Of decoding alone: those that compute a prompt besides are no measure."""
    return counts.plain_steps + counts.verify_steps


def _step_s(counts: "SpeculationCounts") -> float:
    """In the model and the sampler, drafts not counted."""
    return counts.plain_s + counts.verify_s


def _said(counts: "SpeculationCounts") -> int:
    """Tokens of drafts that began with what had been said before."""
    source = counts.sources.get(Source.JACOBI)
    return source.accepted_at(SAID_GRADE) if source is not None else 0


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
    options: EvaluateOptions, folder: Path, asked: list[list[int]], sizes: list[int], rows: Lines
) -> None:
    """Time the engine as it serves, drafting what pays, with at most so many answers under way.

    Tokens a second are of all, prompts computed in between and the last answers' end included.
    """
    from headstart.recipes.engine import Engine

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
                    counts = _counts(done)
                    row["tokens_per_step"] = counts.tokens / max(1, counts.rows)
            row["speedup"] = row["tokens_per_s_jacobi"] / row["tokens_per_s_plain"]
            rows.add([row])


def by_transformers(
    options: EvaluateOptions, chat: Chat, folder: Path, asked: list[list[int]], notes: Path
) -> tuple[dict[str, Any], list[list[int]]]:
    """Decode with the server's proposer, untimed."""
    turns = Lines(notes / "turns.jsonl")
    left = range(sum(len(turn["answers"]) for turn in turns), len(asked))
    model = load(folder, device_of(options.device), options.dtype).eval() if left else None
    for turn in tqdm([*batches(left, options.pack_batch)], desc="decoded both ways"):
        some = [asked[number] for number in turn]
        plain = greedy(model, chat, some, options.max_tokens)
        decoded = jacobi_answers(
            model,
            some,
            chat.ends,
            max_tokens=options.max_tokens,
            block_tokens=options.block_tokens,
        )
        pairs = list(zip(plain, decoded, strict=True))
        row: dict[str, Any] = {"answers": plain}
        row["different"] = sum(one != other.answer for one, other in pairs)
        for name in GROUPS:
            row[name] = [
                {"num": 1, "tokens": len(other.answer), "rows": other.steps, "said": other.said}
                for one, other in pairs
                if is_looping(one) == (name == "looping")
            ]
        turns.add([row])
    return figures_of(turns, options.seed)
