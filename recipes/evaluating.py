"""`evaluate`: a base and what was made of it, side by side, on prompts that none was trained on."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from headstart.cluster.merged_model import base_of
from headstart.recipes import trained_on
from headstart.recipes.answering import Question, answer_all
from headstart.recipes.checking import check_metric
from headstart.recipes.collecting import traced
from headstart.recipes.decoding import losses
from headstart.recipes.decoding_arms import (
    EvaluateOptions,
    by_engine,
    by_transformers,
    sizes_of,
)
from headstart.recipes.decoding_figures import change_of
from headstart.recipes.models import Chat, device_of, fingerprint, folder_of, load, machine
from headstart.recipes.prompts import Prompt, batches, is_right, read_prompts
from headstart.recipes.provenance import known_places, training_of
from headstart.recipes.samples import Answer, Lines, claim, write_json
from headstart.stages.errors import SetupError
from headstart.stages.looping import is_looping

__all__ = ["EvaluateOptions", "evaluate", "weights_in_words"]


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Measure every arm that has not been measured, or not all of it; returns all of them.

    Raises:
        SetupError: Prompts or models are not fit.
    """
    if options.adapter is not None and options.tuned is not None:
        raise SetupError("--adapter and --tuned are two ways to say what is judged: give one")
    if options.metric_only and options.metric == "none":
        raise SetupError("--metric-only needs a --metric")
    sizes_of(options)
    prompts = read_prompts(options.prompts, options.first, options.num)
    check_metric(options.metric, prompts, options.prompts)
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
        places = [known_places(*sources[name], arms[name]) for name in arms]
        _check_unseen(chat, prompts, [each for some in places for each in some])
    asked = {name: str(getattr(options, name)) for name in _COMPARED}
    asked["prompts"] = options.prompts.name
    identity = asked | {"base": fingerprint(arms["base"]), "prompts_sha256": _digest(prompts)}
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
            notes = options.out / "notes" / f"{name}-{weights}"
            measured = _measured(options, chat, folder, prompts, first, notes)
            measured = {"weights": weights} | measured
            write_json(note, measured)
        first = first or measured
        found[name] = measured["figures"] | _against(measured, first, options.seed)
        source, adapter = sources[name]
        found[name] |= {"weights": weights_in_words(source, adapter), "fingerprint": weights}
        trainings = map(training_of, known_places(source, adapter, folder))
        if (training := next(filter(None, trainings), None)) is not None:
            found[name]["training"] = training
    told = asked | {"prompts_sha256": sha256(options.prompts.read_bytes()).hexdigest()}
    write_json(options.out / "figures.json", {"asked": told, "arms": found})
    return found


def weights_in_words(source: str, adapter: Path | None) -> str:
    """Say what an arm's weights are, without the paths of the machine that has them."""
    path = Path(source).expanduser()
    if path.is_dir() and (base := base_of(path)) is not None:
        model = weights_in_words(base, path)
    else:
        model = path.resolve().name if path.exists() else source
    return f"{model} with adapter {adapter.resolve().name}" if adapter is not None else model


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
    *("seed", "dtype", "metric_only"),
)


def _digest(prompts: Sequence[Prompt]) -> str:
    """Tell prompts, and what makes answers to them right, from others."""
    said = json.dumps([[each.id, each.messages, each.row] for each in prompts])
    return sha256(said.encode()).hexdigest()


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


def _against(measured: dict[str, Any], first: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return how many answers are right here and not of the base, and what its answers cost."""
    if measured is first:
        return {}
    found: dict[str, Any] = {}
    if "right" in measured:
        pairs = list(zip(measured["right"], first["right"], strict=True))
        found["right_alone"] = sum(here and not there for here, there in pairs)
        found["wrong_alone"] = sum(there and not here for here, there in pairs)
    if "losses" in measured and "losses" in first:
        found |= change_of(measured["losses"], first["losses"], seed)
    return found


def _measured(
    options: EvaluateOptions,
    chat: Chat,
    folder: Path,
    prompts: Sequence[Prompt],
    first: dict[str, Any],
    notes: Path,
) -> dict[str, Any]:
    """Measure an arm, or go on where a killed call was.

    Args:
        notes: Folder for what is measured, prompt by prompt.
    """
    asked = {prompt.id: chat.prompt(prompt.messages) for prompt in prompts}
    is_timed = options.engine == "vllm" or (options.engine == "auto" and bool(find_spec("vllm")))
    figures: dict[str, Any] = {}
    if options.metric_only:
        questions = {number: Question(tokens) for number, tokens in asked.items()}
        answer_all(folder, chat, questions, notes / "answers.jsonl", options)
        by_id = {row["id"]: row["answer"] for row in Lines(notes / "answers.jsonl")}
        plain = [by_id[number] for number in asked]
    else:
        decode = by_engine if is_timed else by_transformers
        figures, plain = decode(options, chat, folder, list(asked.values()), notes)
    figures["answers"] = len(prompts)
    figures["date"] = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    figures["machine"] = machine(device_of("auto" if is_timed else options.device))
    said = [
        Answer(number, tokens, answer, bool(answer) and answer[-1] in chat.ends)
        for (number, tokens), answer in zip(asked.items(), plain, strict=True)
    ]
    found: dict[str, Any] = {"figures": figures, "answers": [asdict(each) for each in said]}
    if options.metric != "none":
        found["right"] = [
            is_right(options.metric, prompt, chat.text(each.answer))
            for prompt, each in zip(prompts, said, strict=True)
        ]
        figures["right"] = float(np.mean(found["right"]))
    if options.metric_only:
        return found
    model = load(folder, device_of(options.device), options.dtype).eval()
    figures |= _trajectory_counts(model, said, options, Lines(notes / "trajectories.jsonl"))
    of_base = [Answer(**each) for each in first.get("answers", found["answers"])]
    found["losses"] = _losses(model, of_base, options, Lines(notes / "losses.jsonl"))
    if found["losses"]:
        total, num = (sum(column) for column in zip(*found["losses"].values(), strict=True))
        figures["loss_on_base"] = total / num
        figures["perplexity_on_base"] = math.exp(total / num)
    return found


def _losses(
    model: Any, of_base: Sequence[Answer], options: EvaluateOptions, rows: Lines
) -> dict[str, list[float]]:
    """Return loss and tokens of each of the base's answers, by prompt, loops left out."""
    known = {row["id"] for row in rows}
    left = [each for each in of_base if each.id not in known and not is_looping(each.answer)]
    for some in losses(model, left, options.pack_batch):
        rows.add([{"id": number, "loss": [loss, num]} for number, loss, num in some])
    return {str(row["id"]): row["loss"] for row in rows}


def _trajectory_counts(
    model: Any, said: Sequence[Answer], options: EvaluateOptions, rows: Lines
) -> dict[str, Any]:
    """Return CLLM's own counts, on each arm's own answers, those that loop left out."""
    known = {row["id"] for row in rows}
    fit = [each for each in said if len(each.answer) > 1 and not is_looping(each.answer)]
    left = [each for each in fit if each.id not in known]
    for some in tqdm([*batches(left, options.pack_batch)], desc="trajectories"):
        rows.add(
            [
                {"id": each.id, "blocks": len(each.tails), "counts": each.counts}
                for each in traced(model, some, options.block_tokens, options.seed)
            ]
        )
    gains = [gain for row in rows for gain in row["counts"]["fast_forwarded"]]
    if not gains:
        return {}
    blocks = sum(row["blocks"] for row in rows)
    return {
        "fast_forwarded": float(np.mean(gains)),
        "stationary_per_block": sum(row["counts"]["stationary"] for row in rows) / blocks,
    }
