"""`evaluate`: what drafters gain in one language, side by side with none and with copying.

The target answers once, at each temperature; every drafter then drafts those answers offline, and
in the server's engine those that its worker hosts are timed.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from headstart.configs.speculation import MAX_DRAFT_TOKENS
from headstart.recipes.answering import answer_all
from headstart.recipes.distilling import PromptOptions, asked_of, identity_of, prompts_of
from headstart.recipes.drafter_model import Drafter
from headstart.recipes.drafter_timing import figures_of, timed, timed_tables
from headstart.recipes.models import Chat, device_of, folder_of, load, machine
from headstart.recipes.options import option
from headstart.recipes.plots import plot_bars
from headstart.recipes.replaying import Replayed, replay, replay_hits
from headstart.recipes.samples import Answer, answers_in, claim, write_json
from headstart.recipes.table_building import read_table
from headstart.recipes.trained_on import digests_of, noted, parted
from headstart.stages.copy_drafter import CopyDrafter
from headstart.stages.errors import SetupError
from headstart.stages.looping import is_looping
from headstart.stages.ngram_table import NgramTable, TableDrafter

__all__ = ["EvaluateOptions", "evaluate", "named_arms"]

Replayer = Callable[[Answer], Replayed]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(PromptOptions):
    """What `evaluate` is told."""

    drafters: tuple[str, ...] = option("NAME=PATH of each: a drafter's folder or a table", ())
    temperatures: tuple[float, ...] = option("answers are drawn at each", (0.0, 1.0))
    draft_tokens: int = option(
        "most tokens in a draft of a table or by copying", 16, least=1, most=MAX_DRAFT_TOKENS
    )
    model_tokens: int = option("tokens that a neural drafter drafts in each step", 4, least=1)
    num: int = option("most prompts", 50, least=1)
    seen: bool = option("take prompts whose answers taught a drafter, too", False)
    timed: bool = option("also time tables and copying in the serving engine (needs vLLM)", False)
    timed_tables: tuple[str, ...] = option("which of the tables to time; unset: all", ())
    timed_temperatures: tuple[float, ...] = option("at which to time; unset: all", ())
    timed_num: int | None = option("most prompts to time at each; unset: all", None, least=1)
    auto: str | None = option("the table that `auto` has while timing; else the first", None)
    timed_batch: int = option(
        "answers at once while timing; 1 is what a stream's rate means", 1, least=1
    )


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Measure; returns the figures, which figures.json has by answer, too, and figures.png.

    Raises:
        SetupError: Prompts, target or a drafter are not fit.
    """
    arms = named_arms(options.drafters)
    folder = folder_of(options.model)
    chat = Chat.of(folder)
    if options.timed:
        timed_tables(options, arms)
    elif options.timed_tables or options.timed_temperatures or options.timed_num or options.auto:
        raise SetupError(
            "--timed-tables, --timed-temperatures, --timed-num and --auto go with --timed"
        )
    tables = {name: read_table(path, folder) for name, path in arms.items() if not path.is_dir()}
    replayers, costs = _arms(options, arms, tables, chat)
    prompts = prompts_of(options, "heldout")
    asked = asked_of(prompts, chat, options.temperatures, options.seed)
    if not options.seen:
        _check_unseen(arms, tables, digests_of(each.prompt for each in asked.values()))
    identity = identity_of(options, folder, chat, prompts)
    claim(options.out, identity | {"temperatures": list(options.temperatures)})
    answer_all(folder, chat, asked, options.out / "answers.jsonl", options)
    answers = list(answers_in(options.out / "answers.jsonl"))
    figures: dict[str, Any] = {
        "language": options.language,
        "asked": (options.prompts or Path("heldout")).stem,
        "max_tokens": options.max_tokens,
        "draft_tokens": options.draft_tokens,
        "model_tokens": options.model_tokens,
        "dtype": options.dtype,
        "machine": machine(device_of(options.device)),
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "prompts": len(prompts),
        "kinds": {name: "model" if path.is_dir() else "table" for name, path in arms.items()},
        "replayed": {},
        "looping_answers": {},
    }
    by_answer: dict[str, Any] = {"replayed_rows": {}}
    target_ms = _target_ms(options, folder) if costs else None
    for place, temperature in enumerate(options.temperatures):
        drawn = [each for each in answers if each.id % len(options.temperatures) == place]
        fit = [each for each in drawn if not is_looping(each.answer)]
        figures["looping_answers"][str(temperature)] = len(drawn) - len(fit)
        rows = {name: _replayed(fit, replayer, name) for name, replayer in replayers.items()}
        figures["replayed"][str(temperature)] = {
            name: _summed(each, costs.get(name), target_ms) for name, each in rows.items()
        }
        by_answer["replayed_rows"][str(temperature)] = {
            name: [(one.tokens, one.steps) for one in each] for name, each in rows.items()
        }
    if options.timed:
        by_answer["timed_rows"] = timed(options, folder, asked, arms)
        figures["timed"] = figures_of(by_answer["timed_rows"])
    figures["learned_tokens"] = _learned_tokens(arms, tables)
    write_json(options.out / "figures.json", figures | by_answer)
    plot_bars(
        {
            f"T = {temperature}": {name: each["accepted_length"] for name, each in found.items()}
            for temperature, found in figures["replayed"].items()
        },
        "tokens a step",
        options.out / "figures.png",
    )
    return figures


def _check_unseen(
    arms: Mapping[str, Path], tables: Mapping[str, NgramTable], asked: set[bytes]
) -> None:
    """Refuse prompts whose answers taught a drafter."""
    for name, path in arms.items():
        known = parted(tables[name].learned_prompts) if name in tables else noted(path)
        if common := len(asked & known):
            raise SetupError(
                f"{path} learned answers to {common} of {len(asked)} prompts: give others "
                "(`--first`), or --seen"
            )


def _learned_tokens(arms: Mapping[str, Path], tables: Mapping[str, NgramTable]) -> dict[str, int]:
    """Return how many tokens taught each drafter in its last run, where that is known."""
    found = {}
    for name, path in arms.items():
        note = path.parent / "result.json"
        if name in tables:
            found[name] = tables[name].learned_tokens
        elif note.is_file():
            found[name] = int(json.loads(note.read_bytes())["learned_tokens"])
    return {name: num for name, num in found.items() if num}


def named_arms(said: Sequence[str]) -> dict[str, Path]:
    """Read `NAME=PATH`.

    Raises:
        SetupError: One is not of that form, is named twice, or is not there.
    """
    found: dict[str, Path] = {}
    for each in said:
        name, _, path = each.partition("=")
        if not name or not path or name in (*found, "none", "ngram", "auto"):
            raise SetupError(
                f"--drafters takes NAME=PATH, each name once (none, ngram, auto are taken): {each}"
            )
        if not Path(path).exists():
            raise SetupError(f"{path} is not there: train or build it first")
        found[name] = Path(path)
    return found


def _arms(
    options: EvaluateOptions,
    arms: Mapping[str, Path],
    tables: Mapping[str, NgramTable],
    chat: Chat,
) -> tuple[dict[str, Replayer], dict[str, float]]:
    """Return what replays an answer, by arm, and what a drafted token costs, in milliseconds."""
    most = options.draft_tokens
    device = device_of(options.device)
    replayers: dict[str, Replayer] = {
        "none": lambda each: replay_hits([], each.answer, 0),
        "ngram": lambda each: replay(CopyDrafter(_begun(each)), each.answer, most),
    }
    costs = {}
    for name, path in arms.items():
        if path.is_dir():
            drafter = Drafter.load(path, device, options.dtype)
            drafter.check(chat.identity, path)
            costs[name] = step_ms(drafter.model, 1)
            replayers[name] = lambda each, drafter=drafter: replay_hits(  # type: ignore[misc]
                drafter.drafts(each.prompt, each.answer), each.answer, options.model_tokens
            )
        else:
            replayers[name] = lambda each, table=tables[name]: replay(  # type: ignore[misc]
                TableDrafter(table, _begun(each)), each.answer, most
            )
    return replayers, costs


def _begun(answer: Answer) -> list[int]:
    return [*answer.prompt, *answer.answer[:1]]


def _replayed(answers: Sequence[Answer], replayer: Replayer, name: str) -> list[Replayed]:
    return [replayer(answer) for answer in tqdm(answers, desc=name, leave=False) if answer.answer]


def _summed(
    each: Sequence[Replayed], cost_ms: float | None, target_ms: tuple[float, float] | None
) -> dict[str, Any]:
    total = sum(each, Replayed())
    found: dict[str, Any] = {
        "answers": len(each),
        "accepted_length": _rounded(total.accepted_length),
        "half_width": _half_width(each),
        "acceptance": _rounded(total.acceptance),
        "drafted_a_step": _rounded(total.drafted / total.steps if total.steps else None),
    }
    if cost_ms is not None and target_ms is not None and total.accepted_length is not None:
        plain_ms, verify_ms = target_ms
        step = verify_ms + cost_ms * total.drafted / total.steps
        found["ms_a_drafted_token"] = round(cost_ms, 3)
        found["estimated_speedup"] = _rounded(total.accepted_length * plain_ms / step)
    return found


def _half_width(each: Sequence[Replayed]) -> float | None:
    """Return half of the 95 % interval of tokens a step, the answers drawn anew (bootstrap)."""
    tokens = np.array([one.tokens for one in each])
    steps = np.array([one.steps for one in each])
    if len(each) < 2 or not steps.any():
        return None
    picks = np.random.default_rng(0).integers(len(each), size=(1000, len(each)))
    found = tokens[picks].sum(axis=1) / np.maximum(1, steps[picks].sum(axis=1))
    low, high = np.percentile(found, [2.5, 97.5])
    return round(float(high - low) / 2, 4)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _target_ms(options: EvaluateOptions, folder: Path) -> tuple[float, float]:
    """Return what the target takes for one token, and for a draft and one more."""
    model = load(folder, device_of(options.device), options.dtype).eval()
    return step_ms(model, 1), step_ms(model, options.model_tokens + 1)


def step_ms(model: Any, num_tokens: int, behind: int = 128, times: int = 15) -> float:
    """Return the milliseconds of a forward pass over some tokens behind others, by transformers."""
    import torch

    ids = torch.zeros((1, behind + num_tokens), dtype=torch.int64, device=model.device)
    seconds = []
    with torch.inference_mode():
        past = model(ids[:, :behind], use_cache=True).past_key_values
        for _ in range(times):
            began = time.perf_counter()
            model(ids[:, behind:], past_key_values=past, use_cache=True).logits.argmax(dim=-1).cpu()
            seconds.append(time.perf_counter() - began)
            past.crop(-num_tokens)
    return 1000 * float(np.median(seconds))
