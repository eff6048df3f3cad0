"""`evaluate`: a base and what was made of it, side by side, on prompts that none was trained on."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from headstart.recipes import trained_on
from headstart.recipes.collecting import traced
from headstart.recipes.decoding import perplexity
from headstart.recipes.decoding_arms import (
    EvaluateOptions,
    by_engine,
    by_transformers,
    sizes_of,
)
from headstart.recipes.exporting import training_of
from headstart.recipes.models import Chat, device_of, fingerprint, folder_of, load, machine
from headstart.recipes.prompts import Prompt, batches, is_right, read_prompts
from headstart.recipes.samples import Answer, claim, write_json
from headstart.stages.errors import SetupError
from headstart.stages.looping import is_looping

__all__ = ["EvaluateOptions", "evaluate"]


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Measure every arm that has not been measured; returns all of them.

    Raises:
        SetupError: Prompts or models are not fit.
    """
    if options.adapter is not None and options.tuned is not None:
        raise SetupError("--adapter and --tuned are two ways to say what is judged: give one")
    sizes_of(options)
    prompts = read_prompts(options.prompts, options.first, options.num)
    sources: dict[str, tuple[str, Path | None]] = {"base": (options.model, None)}
    if options.adapter is not None or options.tuned is not None:
        sources["tuned"] = (options.tuned or options.model, options.adapter)
    if options.rival is not None:
        sources["rival"] = (options.model, options.rival)
    arms = {name: folder_of(*source) for name, source in sources.items()}
    chat = Chat.of(arms["base"])
    for name, folder in arms.items():
        if Chat.of(folder).identity != chat.identity:
            raise SetupError(f"the arm {name} has another tokenizer or chat template than the base")
    if not options.seen:
        _check_unseen(
            chat, prompts, [adapter or Path(source) for source, adapter in sources.values()]
        )
    asked = {name: str(getattr(options, name)) for name in _COMPARED}
    identity = asked | {"base": fingerprint(arms["base"])}
    claim(options.out, identity)
    if options.like is not None:
        _take_base(options.like, options.out, identity)
    found: dict[str, Any] = {}
    first: dict[str, Any] = {}
    for name, folder in tqdm(arms.items(), desc="arms"):
        note = options.out / f"{name}.json"
        weights = fingerprint(folder)
        measured = json.loads(note.read_bytes()) if note.exists() else {}
        if measured.get("weights") != weights:
            measured = {"weights": weights} | _measured(options, chat, folder, prompts, first)
            write_json(note, measured)
        first = first or measured
        found[name] = measured["figures"] | _against(measured, first)
        source, adapter = sources[name]
        if (training := training_of(adapter or Path(source))) is not None:
            found[name]["training"] = training
    asked["prompts"] = options.prompts.name
    write_json(options.out / "figures.json", {"asked": asked, "arms": found})
    return found


def _check_unseen(chat: Chat, prompts: Sequence[Prompt], folders: Sequence[Path]) -> None:
    """Refuse prompts that an arm was trained on."""
    asked = trained_on.digests_of(chat.prompt(prompt.messages) for prompt in prompts)
    for folder in folders:
        if known := len(asked & trained_on.noted(folder)):
            raise SetupError(
                f"{folder} was trained on {known} of {len(asked)} prompts: give others, or --seen"
            )


_COMPARED = (
    *("metric", "first", "num", "max_tokens", "block_tokens", "engine", "batch", "batches"),
    *("seed", "dtype", "prompts"),
)


def _take_base(like: Path, out: Path, identity: dict[str, Any]) -> None:
    try:
        other = json.loads((like / "run.json").read_bytes())
        others = [name for name in identity if other.get(name) != identity[name]]
        if others:
            raise SetupError(f"{like} was measured with other {', '.join(others)}: give the same")
        if not (out / "base.json").exists():
            write_json(out / "base.json", json.loads((like / "base.json").read_bytes()))
    except (OSError, ValueError) as error:
        raise SetupError(f"{like} is no evaluation that has measured its base: {error}") from error


def _against(measured: dict[str, Any], first: dict[str, Any]) -> dict[str, int]:
    """Return how many answers are right here and not of the base, and the other way round."""
    if "right" not in measured or measured is first:
        return {}
    pairs = list(zip(measured["right"], first["right"], strict=True))
    return {
        "right_alone": sum(here and not there for here, there in pairs),
        "wrong_alone": sum(there and not here for here, there in pairs),
    }


def _measured(
    options: EvaluateOptions,
    chat: Chat,
    folder: Path,
    prompts: Sequence[Prompt],
    first: dict[str, Any],
) -> dict[str, Any]:
    asked = [chat.prompt(prompt.messages) for prompt in prompts]
    is_timed = options.engine == "vllm" or (options.engine == "auto" and bool(find_spec("vllm")))
    decode = by_engine if is_timed else by_transformers
    figures, plain = decode(options, chat, folder, asked)
    figures["answers"] = len(prompts)
    figures["date"] = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    figures["machine"] = machine(device_of("auto" if is_timed else options.device))
    said = [
        Answer(prompt.id, tokens, answer, bool(answer) and answer[-1] in chat.ends)
        for prompt, tokens, answer in zip(prompts, asked, plain, strict=True)
    ]
    found: dict[str, Any] = {"figures": figures, "answers": [asdict(each) for each in said]}
    if options.metric != "none":
        found["right"] = [
            is_right(options.metric, prompt, chat.text(each.answer))
            for prompt, each in zip(prompts, said, strict=True)
        ]
        figures["right"] = float(np.mean(found["right"]))
    model = load(folder, device_of(options.device), options.dtype).eval()
    figures |= _trajectory_counts(model, said, options)
    of_base = [Answer(**each) for each in first.get("answers", found["answers"])]
    figures["perplexity_on_base"] = perplexity(model, of_base, options.pack_batch)
    return found


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
