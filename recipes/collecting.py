"""`collect`: the model's own greedy answers, and their Jacobi trajectories.

Two files grow in the output folder: answers.jsonl, then samples.jsonl. A killed run goes on where
it was; what it makes depends on the seed and each prompt, not on where it was killed. Which answers
are kept is decided anew at each call: samples of those that no longer are leave samples.jsonl.
"""

import json
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from headstart.recipes import forwarding
from headstart.recipes.answering import ENGINES, Question, answer_all, greedy
from headstart.recipes.checking import check_metric
from headstart.recipes.cleaning import fit
from headstart.recipes.disk import check_disk
from headstart.recipes.models import Chat, device_of, fingerprint, folder_of, load
from headstart.recipes.noise import drawn
from headstart.recipes.options import option
from headstart.recipes.packing import pack
from headstart.recipes.prompts import METRICS, Prompt, batches, is_right, read_prompts
from headstart.recipes.samples import Answer, Lines, Sample, answers_in, claim, write_json
from headstart.recipes.trajectories import blocks_of, count, tail_of
from headstart.stages.errors import SetupError

__all__ = ["CollectOptions", "collect", "traced"]


@dataclass(frozen=True, kw_only=True)
class CollectOptions:
    """What `collect` is told."""

    model: str = option("the model: a folder, a Hugging Face id, or builtin:NAME")
    prompts: Path = option("file of prompts: one a line, or .jsonl")
    out: Path = option("folder for answers and trajectories")
    adapter: Path | None = option("LoRA adapter that the model is used with", None)
    first: int = option("first line of the prompts", 0)
    num: int | None = option("how many lines; unset: all", None, least=1)
    max_tokens: int = option("longest answer", 256, least=1)
    min_tokens: int = option("shortest answer that is kept", 16)
    metric: str = option("keep right answers only, by this", "none", METRICS)
    keep_cut: bool = option("keep answers that reached --max-tokens, too", False)
    block_tokens: int = option("length of a block, its known token included", 16, least=2, most=65)
    engine: str = option("who makes the answers", "auto", ENGINES)
    batch: int = option("answers made at once", 32, least=1)
    pack_batch: int = option("answers whose blocks are iterated at once", 4, least=1)
    seed: int = option("of first guesses and of where blocks begin", 0)
    device: str = option("auto, cpu or cuda", "auto")
    dtype: str = option("of the weights", "bfloat16", ("bfloat16", "float32"))
    dry_run: bool = option("check everything and answer a few prompts, then stop", False)


def collect(options: CollectOptions) -> dict[str, Any]:
    """Make samples and their card; returns the card.

    Raises:
        SetupError: Prompts, model, tokenizer or disk are not fit.
    """
    prompts = read_prompts(options.prompts, options.first, options.num)
    check_metric(options.metric, prompts, options.prompts)
    folder = folder_of(options.model, options.adapter)
    chat = Chat.of(folder)
    asked = {prompt.id: chat.prompt(prompt.messages) for prompt in prompts}
    _check_disk(options, len(prompts))
    identity = _identity(options, folder, chat)
    if options.dry_run:
        return _rehearse(options, folder, chat, prompts, asked)
    claim(options.out, identity)
    greedily = {number: Question(prompt) for number, prompt in asked.items()}
    answer_all(folder, chat, greedily, options.out / "answers.jsonl", options)
    card = identity | _chosen_by(options) | _trace(options, folder, chat, prompts)
    write_json(options.out / "card.json", card)
    return card


def _identity(options: CollectOptions, folder: Path, chat: Chat) -> dict[str, Any]:
    """What has to be the same when a run goes on."""
    return {
        "model": options.model,
        "weights": fingerprint(folder),
        "tokenizer": chat.identity,
        "prompts": options.prompts.name,
        "prompts_sha256": sha256(options.prompts.read_bytes()).hexdigest(),
        "first": options.first,
        "max_tokens": options.max_tokens,
        "block_tokens": options.block_tokens,
        "seed": options.seed,
        "dtype": options.dtype,
    }


def _chosen_by(options: CollectOptions) -> dict[str, Any]:
    """What the card says of how answers were chosen. Another call may choose others of them."""
    chosen = {"min_tokens": options.min_tokens, "keeps_cut": options.keep_cut}
    return chosen | ({} if options.metric == "none" else {"metric": options.metric})


def _check_disk(options: CollectOptions, num: int) -> None:
    """Trajectories take some 5 bytes a number, and a state for each token of a block."""
    there = options.out / "samples.jsonl"
    left = max(0, num - (len(there.read_bytes().splitlines()) if there.exists() else 0))
    needed = left * options.max_tokens * (options.block_tokens / 2 + 2) * 6
    check_disk(options.out, needed, f"trajectories of {left} answers", "ask for fewer prompts")


def _trace(
    options: CollectOptions, folder: Path, chat: Chat, prompts: list[Prompt]
) -> dict[str, Any]:
    """Clean the answers and iterate their blocks; returns the card's counts."""
    answers = answers_in(options.out / "answers.jsonl")
    by_id = {prompt.id: prompt for prompt in prompts}
    asked = (each for each in answers if each.id in by_id)
    kept, flaws = fit(asked, min_tokens=options.min_tokens, keeps_cut=options.keep_cut)
    if options.metric != "none":
        said = [is_right(options.metric, by_id[each.id], chat.text(each.answer)) for each in kept]
        flaws["wrong"] = said.count(False)
        kept = [each for each, right in zip(kept, said, strict=True) if right]
    if not kept:
        raise SetupError(
            f"no answer is fit for training ({flaws} left out): lower --min-tokens or "
            "give --keep-cut; or answer anew in another --out, with a higher --max-tokens or other "
            "--prompts"
        )
    path = options.out / "samples.jsonl"
    samples = Lines(path)
    known, chosen = {row["id"] for row in samples}, {each.id for each in kept}
    if known != chosen:
        # Until these samples are whole, no card says that they are.
        (options.out / "card.json").unlink(missing_ok=True)
    if known - chosen:
        _keep_only(chosen, path)
    # Answers of like length waste little padding.
    missing = sorted((each for each in kept if each.id not in known), key=lambda x: len(x.answer))
    if missing:
        model = load(folder, device_of(options.device), options.dtype).eval()
        bar = tqdm(total=len(missing), desc="trajectories", unit="answer")
        for some in batches(missing, options.pack_batch):
            samples.add(traced(model, some, options.block_tokens, options.seed))
            bar.update(len(some))
        bar.close()
    return _counts(samples, flaws)


def _keep_only(chosen: Set[int], path: Path) -> None:
    """Rewrite a file of samples without those that are not chosen: it is the old one or whole."""
    partial = path.with_name(path.name + ".partial")
    try:
        with path.open(encoding="utf-8") as old, partial.open("w", encoding="utf-8") as new:
            new.writelines(line for line in old if json.loads(line)["id"] in chosen)
        partial.replace(path)
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}") from error


def traced(model: Any, answers: Sequence[Answer], block_tokens: int, seed: int) -> list[Sample]:
    """Return samples with their trajectories, and what these gained."""
    bare = []
    for each in answers:
        offset = int(np.random.default_rng([seed, each.id, 1]).integers(block_tokens))
        offset = min(offset, max(0, len(each.answer) - 2))
        num = len(blocks_of(len(each.prompt), len(each.answer), block_tokens, offset))
        empty: list[list[list[int]]] = [[] for _ in range(num)]
        bare.append(Sample(each.id, each.prompt, each.answer, block_tokens, offset, empty))
    return [
        _with_trajectories(sample, states)
        for sample, states in zip(bare, forwarding.trajectories(model, bare, seed), strict=True)
    ]


def _with_trajectories(sample: Sample, by_block: list[list[list[int]]]) -> Sample:
    tokens = sample.tokens
    rights = [tokens[block.start : block.end] for block in sample.blocks]
    tails = [
        [tail for state in states if (tail := tail_of(state, right))]
        for right, states in zip(rights, by_block, strict=True)
    ]
    gained = [found for states in by_block if (found := count(states))]
    counts = {
        "iterations": sum(each.iterations for each in gained),
        "fast_forwarded": [round(each.fast_forwarded, 3) for each in gained],
        "stationary": sum(each.stationary for each in gained),
        # An engine that made the answers rounds differently, and near-ties fall the other way.
        "elsewhere": sum(
            states[-1] != right for right, states in zip(rights, by_block, strict=True)
        ),
    }
    return replace(sample, tails=tails, counts=counts)


def _counts(samples: Lines, flaws: dict[str, int]) -> dict[str, Any]:
    rows = list(samples)
    blocks = sum(len(row["tails"]) for row in rows)
    gains = [each for row in rows for each in row["counts"]["fast_forwarded"]]

    def total(name: str) -> int:
        return sum(row["counts"][name] for row in rows)

    return {
        "samples": len(rows),
        "answer_tokens": sum(len(row["answer"]) for row in rows),
        "blocks": blocks,
        "left_out": flaws,
        "iterations_per_block": total("iterations") / max(1, blocks),
        "fast_forwarded": float(np.mean(gains)) if gains else None,
        "stationary_per_block": total("stationary") / max(1, blocks),
        "blocks_that_end_elsewhere": total("elsewhere"),
    }


def _rehearse(
    options: CollectOptions,
    folder: Path,
    chat: Chat,
    prompts: list[Prompt],
    asked: dict[int, list[int]],
) -> dict[str, Any]:
    """Answer a few prompts, iterate their blocks, and say what all would take."""
    model = load(folder, device_of(options.device), options.dtype).eval()
    apart = max(1, len(prompts) // options.pack_batch)
    some = [prompt.id for prompt in prompts[::apart][: options.pack_batch]]
    began = time.monotonic()
    found = greedy(model, chat, [asked[number] for number in some], options.max_tokens)
    answered = time.monotonic()
    answers = [Answer(n, asked[n], a, True) for n, a in zip(some, found, strict=True)]
    samples = traced(model, answers, options.block_tokens, options.seed)
    ended = time.monotonic()
    for each in samples[:1]:
        shown = drawn(each.tails, np.random.default_rng(0))
        forwarding.check_mask(model, pack(each.tokens, len(each.prompt), each.blocks, shown))
    return {
        "prompts": len(prompts),
        "longest_prompt": max(map(len, asked.values())),
        "first_answer": chat.text(found[0]),
        "longest_answer": max(map(len, found)),
        # transformers' answers, so few at once: the serving engine is faster.
        "answers_minutes_at_most": round((answered - began) / len(some) * len(prompts) / 60, 1),
        "trajectories_minutes": round((ended - answered) / len(some) * len(prompts) / 60, 1),
    }
