"""`distil`: what the target itself says to prompts in one language, at several temperatures.

A drafter learns the target's answers, never references. A killed run goes on where it was.
"""

import json
import time
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from headstart.recipes.answering import ENGINES, Question, answer_all, answered
from headstart.recipes.cleaning import fit
from headstart.recipes.corpus import read_documents
from headstart.recipes.language_prompts import prompts_from
from headstart.recipes.models import Chat, device_of, fingerprint, folder_of, load
from headstart.recipes.options import option
from headstart.recipes.prompts import Prompt, read_prompts
from headstart.recipes.samples import Answer, answers_in, claim, read_card, write_json
from headstart.stages.errors import SetupError
from headstart.stages.language import TAG

__all__ = [
    "DistilOptions",
    "PromptOptions",
    "asked_of",
    "distil",
    "language_of_answers",
    "prompts_of",
    "read_answers",
]


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """Which prompts are answered, and by whom."""

    model: str = option("the target: a folder, a Hugging Face id, or builtin:NAME")
    language: str = option("code of the language of the prompts, such as de", form=TAG)
    out: Path = option("folder for answers and results")
    corpus: Path | None = option("folder that `corpus` made: prompts are made from it", None)
    prompts: Path | None = option("or a file of prompts; rows of another `lang` are left out", None)
    first: int = option("first line of the prompts", 0)
    num: int = option("most prompts", 1000, least=1)
    max_tokens: int = option("longest answer", 256, least=1)
    engine: str = option("who makes the answers", "auto", ENGINES)
    batch: int = option("answers made at once", 32, least=1)
    seed: int = option("of which prompts are made and what is drawn", 0)
    device: str = option("auto, cpu or cuda", "auto")
    dtype: str = option("of the weights", "bfloat16", ("bfloat16", "float32"))


@dataclass(frozen=True, kw_only=True)
class DistilOptions(PromptOptions):
    """What `distil` is told."""

    temperatures: tuple[float, ...] = option(
        "each prompt is answered at each", (0.0, 0.3, 0.7, 1.0)
    )
    min_tokens: int = option("shortest answer that is kept", 4)
    keep_cut: bool = option("keep answers that reached --max-tokens, too", False)
    dry_run: bool = option("check everything and answer two prompts, then stop", False)


def distil(options: DistilOptions) -> dict[str, Any]:
    """Have the target answer; returns the card.

    Raises:
        SetupError: Prompts, target or disk are not fit, or no answer is.
    """
    folder = folder_of(options.model)
    chat = Chat.of(folder)
    prompts = prompts_of(options, "train")
    asked = asked_of(prompts, chat, options.temperatures, options.seed)
    identity = identity_of(options, folder, chat, prompts) | {
        "temperatures": list(options.temperatures)
    }
    if options.dry_run:
        return _rehearse(options, folder, chat, asked)
    claim(options.out, identity)
    answer_all(folder, chat, asked, options.out / "answers.jsonl", options)
    # What is left out is no part of the run: its answers serve whatever is kept of them.
    answers = answers_in(options.out / "answers.jsonl")
    kept, left_out = fit(answers, min_tokens=options.min_tokens, keeps_cut=options.keep_cut)
    if not kept:
        raise SetupError(
            f"no answer is fit for training ({left_out} left out): give --keep-cut, lower "
            "--min-tokens, or take other prompts or a longer --max-tokens into another --out"
        )
    num = len(options.temperatures)
    card = identity | {
        "min_tokens": options.min_tokens,
        "keeps_cut": options.keep_cut,
        "answers": len(kept),
        "answer_tokens": sum(len(each.answer) for each in kept),
        "answers_by_temperature": {
            str(options.temperatures[place]): count
            for place, count in sorted(Counter(each.id % num for each in kept).items())
        },
        "left_out": left_out,
    }
    write_json(options.out / "card.json", card)
    return card


def prompts_of(options: PromptOptions, part: str) -> list[Prompt]:
    """Return the prompts that a file has, or that a part of a corpus gives.

    Raises:
        SetupError: Both or none are given, or there is no prompt in that language.
    """
    if (options.corpus is None) == (options.prompts is None):
        raise SetupError("prompts come from --corpus or from --prompts: give one of them")
    if options.prompts is not None:
        read = read_prompts(options.prompts, options.first)
        found = [
            each for each in read if each.row.get("lang", options.language) == options.language
        ]
    else:
        assert options.corpus is not None
        documents = read_documents(options.corpus, part)
        wanted = options.first + options.num
        rows = prompts_from(documents, options.language, wanted, options.seed)[options.first :]
        found = [
            Prompt(number, ({"role": "user", "content": row["prompt"]},), row)
            for number, row in enumerate(rows, start=options.first)
        ]
    if not found:
        raise SetupError(f"{options.prompts or options.corpus} has no prompt in {options.language}")
    return found[: options.num]


def asked_of(
    prompts: list[Prompt], chat: Chat, temperatures: tuple[float, ...], seed: int
) -> dict[int, Question]:
    """Return a question for each prompt and temperature, by prompt and place of the temperature."""
    if not temperatures or min(temperatures) < 0:
        raise SetupError("--temperatures must be 0 or above")
    found = {}
    for prompt in prompts:
        tokens = chat.prompt(prompt.messages)
        for place, temperature in enumerate(temperatures):
            number = prompt.id * len(temperatures) + place
            drawn = sha256(f"{seed}:{number}".encode()).digest()
            found[number] = Question(tokens, temperature, int.from_bytes(drawn[:4]))
    return found


def identity_of(
    options: PromptOptions, folder: Path, chat: Chat, prompts: list[Prompt]
) -> dict[str, Any]:
    """What has to be the same when a run goes on."""
    said = json.dumps([[each.id, each.messages] for each in prompts])
    return {
        "model": options.model,
        "weights": fingerprint(folder),
        "tokenizer": chat.identity,
        "language": options.language,
        "prompts": len(prompts),
        "prompts_from": str(options.prompts or options.corpus),
        "prompts_sha256": sha256(said.encode()).hexdigest(),
        "max_tokens": options.max_tokens,
        "seed": options.seed,
        "dtype": options.dtype,
    }


def language_of_answers(folder: Path) -> str:
    """Return the language of the prompts that the answers in a folder are given to.

    Raises:
        SetupError: `distil` has not ended there.
    """
    return str(_card(folder)["language"])


def _card(folder: Path) -> dict[str, Any]:
    needed = ("tokenizer", "language", "min_tokens", "keeps_cut", "temperatures")
    return read_card(folder, *needed, step="`distil`")


def read_answers(folder: Path, chat: Chat) -> list[Answer]:
    """Return the fit answers that `distil` has left in a folder.

    Raises:
        SetupError: It has not ended there, or with another tokenizer or template.
    """
    card = _card(folder)
    if card["tokenizer"] != chat.identity:
        raise SetupError(
            f"{folder} was distilled with another tokenizer or chat template than this target "
            "has: distil from this target"
        )
    answers = answers_in(folder / "answers.jsonl")
    return fit(answers, min_tokens=card["min_tokens"], keeps_cut=card["keeps_cut"])[0]


def _rehearse(
    options: DistilOptions, folder: Path, chat: Chat, asked: dict[int, Question]
) -> dict[str, Any]:
    model = load(folder, device_of(options.device), options.dtype).eval()
    some = list(asked.values())[:2]
    began = time.monotonic()
    found = answered(model, chat, some, min(32, options.max_tokens))
    return {
        "answers": len(asked),
        "longest_prompt": max(len(each.prompt) for each in asked.values()),
        "first_prompt": chat.text(some[0].prompt),
        "first_answer": chat.text(found[0]),
        "seconds_for_two": round(time.monotonic() - began, 1),
    }
