"""`evaluate`: a base and what was made of it, side by side, on prompts that none was trained on."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from headstart.recipes.answering import ENGINES, greedy
from headstart.recipes.cleaning import is_looping
from headstart.recipes.collecting import claim, traced
from headstart.recipes.decoding import jacobi_answers, perplexity
from headstart.recipes.models import Chat, device_of, fingerprint, folder_of, load
from headstart.recipes.options import option
from headstart.recipes.prompts import METRICS, Prompt, batches, is_right, read_prompts
from headstart.recipes.samples import Answer, write_json
from headstart.stages.errors import SetupError

__all__ = ["EvaluateOptions", "evaluate"]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What `evaluate` is told."""

    model: str = option("the base: a folder, a Hugging Face id, or builtin:NAME")
    prompts: Path = option("file of prompts that none was trained on")
    out: Path = option("folder for the results, arm by arm")
    adapter: Path | None = option("what is to be judged: an adapter of the base", None)
    tuned: str | None = option("or a model of its own", None)
    rival: Path | None = option("another adapter beside it, such as CLLM's own loss", None)
    metric: str = option("what makes an answer right", "none", METRICS)
    first: int = option("first line of the prompts", 0)
    num: int | None = option("how many lines; unset: all", None)
    max_tokens: int = option("longest answer", 256)
    block_tokens: int = option("length of a Jacobi block, its known token included", 16)
    engine: str = option("what decodes; only vLLM, the server's, is timed", "auto", ENGINES)
    batch: int = option("answers at once; 1 is what tokens a second of a stream mean", 1)
    pack_batch: int = option("answers at once where nothing is timed", 4)
    seed: int = option("of the trajectories' first guesses", 0)
    device: str = option("auto, cpu or cuda, for what vLLM does not do", "auto")
    dtype: str = option("of the weights", "bfloat16", ("bfloat16", "float32"))


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Measure every arm that has not been measured; returns all of them.

    Raises:
        SetupError: Prompts or models are not fit.
    """
    if options.adapter is not None and options.tuned is not None:
        raise SetupError("--adapter and --tuned are two ways to say what is judged: give one")
    prompts = read_prompts(options.prompts, options.first, options.num)
    arms = {"base": folder_of(options.model)}
    if options.adapter is not None:
        arms["tuned"] = folder_of(options.model, options.adapter)
    if options.tuned is not None:
        arms["tuned"] = folder_of(options.tuned)
    if options.rival is not None:
        arms["rival"] = folder_of(options.model, options.rival)
    chat = Chat.of(arms["base"])
    for name, folder in arms.items():
        if Chat.of(folder).identity != chat.identity:
            raise SetupError(f"the arm {name} has another tokenizer or chat template than the base")
    identity = {name: str(getattr(options, name)) for name in _COMPARED}
    claim(options.out, identity | {"base": fingerprint(arms["base"])})
    found: dict[str, Any] = {}
    base_answers: list[Answer] = []
    for name, folder in tqdm(arms.items(), desc="arms"):
        note = options.out / f"{name}.json"
        weights = fingerprint(folder)
        if note.exists() and (before := json.loads(note.read_bytes()))["weights"] == weights:
            found[name] = before["figures"]
            said = [Answer(**each) for each in before["answers"]]
        else:
            figures, said = _measured(options, chat, folder, prompts, base_answers)
            found[name] = figures
            write_json(
                note,
                {
                    "weights": weights,
                    "figures": figures,
                    "answers": [asdict(each) for each in said],
                },
            )
        base_answers = base_answers or said
    write_json(options.out / "figures.json", found)
    return found


_COMPARED = (
    *("metric", "first", "num", "max_tokens", "block_tokens", "engine", "batch", "seed", "dtype"),
    "prompts",
)


def _measured(
    options: EvaluateOptions,
    chat: Chat,
    folder: Path,
    prompts: Sequence[Prompt],
    base_answers: Sequence[Answer],
) -> tuple[dict[str, Any], list[Answer]]:
    asked = [chat.prompt(prompt.messages) for prompt in prompts]
    is_timed = options.engine == "vllm" or (options.engine == "auto" and bool(find_spec("vllm")))
    decode = _by_engine if is_timed else _by_transformers
    figures, plain = decode(options, chat, folder, asked)
    said = [
        Answer(prompt.id, tokens, answer, bool(answer) and answer[-1] in chat.ends)
        for prompt, tokens, answer in zip(prompts, asked, plain, strict=True)
    ]
    if options.metric != "none":
        right = [
            is_right(options.metric, prompt, chat.text(each.answer))
            for prompt, each in zip(prompts, said, strict=True)
        ]
        figures["right"] = float(np.mean(right))
    model = load(folder, device_of(options.device), options.dtype).eval()
    figures |= _trajectory_counts(model, said, options)
    figures["perplexity_on_base"] = perplexity(model, base_answers or said, options.pack_batch)
    return figures, said


def _by_engine(
    options: EvaluateOptions, chat: Chat, folder: Path, asked: list[list[int]]
) -> tuple[dict[str, Any], list[list[int]]]:
    """Decode in the server's own engine, with its own worker, and time it."""
    from headstart.recipes.engine import Engine

    plain: list[list[int]] = []
    plain_s: list[float] = []
    groups: dict[bool, list[int]] = {False: [], True: []}
    figures: dict[str, Any] = {}
    with Engine(
        folder,
        dtype=options.dtype,
        block_tokens=options.block_tokens,
        max_model_len=max(map(len, asked)) + options.max_tokens,
    ) as engine:
        engine.answer(asked[:1], 16, "jacobi")  # what is slow the first time
        engine.answer(asked[:1], 16, "off")
        for some in batches(asked, options.batch):
            done = engine.answer(some, options.max_tokens, "off")
            plain += done.answers
            plain_s += done.decode_s
        for number, answer in enumerate(plain):
            groups[is_looping(answer)].append(number)
        different = 0
        for loops, numbers in groups.items():
            tokens = rows = 0
            seconds: list[float] = []
            gained = 0
            for some in batches(numbers, options.batch):
                done = engine.answer([asked[n] for n in some], options.max_tokens, "jacobi")
                assert done.counts is not None
                tokens += done.counts.tokens
                rows += done.counts.rows
                seconds += done.decode_s
                gained += sum(len(answer) - 1 for answer in done.answers)
                different += sum(
                    answer != plain[n] for n, answer in zip(some, done.answers, strict=True)
                )
            if not numbers:
                continue
            before = sum(len(plain[n]) - 1 for n in numbers) / sum(plain_s[n] for n in numbers)
            after = gained / sum(seconds)
            figures["looping" if loops else "not_looping"] = {
                "answers": len(numbers),
                "tokens_per_step": tokens / rows,
                "tokens_per_s_plain": before,
                "tokens_per_s_jacobi": after,
                "speedup": after / before,
            }
    figures["answers_that_differ"] = different
    return figures, plain


def _by_transformers(
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


def _trajectory_counts(
    model: Any, said: Sequence[Answer], options: EvaluateOptions
) -> dict[str, Any]:
    """Return CLLM's own counts, on each arm's own answers, those that loop left out."""
    samples = []
    fit = [each for each in said if len(each.answer) > 1 and not is_looping(each.answer)]
    for some in batches(fit, options.pack_batch):
        samples += traced(model, some, options.block_tokens, options.seed)
    gains = [gain for each in samples for gain in each.counts["fast_forwarded"]]
    blocks = sum(len(each.tails) for each in samples)
    if not gains:
        return {}
    return {
        "fast_forwarded": float(np.mean(gains)),
        "stationary_per_block": sum(each.counts["stationary"] for each in samples) / blocks,
    }
