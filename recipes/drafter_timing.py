"""Drafters of the server's worker, timed in its engine: the arms in turn, prompt by prompt."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from headstart.configs.speculation import SpeculationSettings
from headstart.recipes.answering import Question
from headstart.recipes.engine import Engine
from headstart.recipes.prompts import batches
from headstart.stages.drafting import Source
from headstart.stages.looping import is_looping

if TYPE_CHECKING:
    from headstart.recipes.drafter_evaluating import EvaluateOptions

__all__ = ["timed"]


def timed(
    options: "EvaluateOptions",
    folder: Path,
    asked: Mapping[int, Question],
    arms: Mapping[str, Path],
) -> dict[str, Any]:
    """Return tokens a second and a step by temperature and arm, batches that loop left out.

    Neural drafters are no part of it: the worker hosts tables and copying.
    The engine drafts as it serves: what pays, up to `--draft-tokens`. An arm's table is chosen by a
    language tag that is its own for as long as this takes.
    """
    from headstart.recipes.drafter_evaluating import read_table

    longest = max(len(each.prompt) for each in asked.values()) + options.max_tokens
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        wishes: dict[str, tuple[str, str | None]] = {"none": ("off", None), "ngram": ("copy", None)}
        tables = {}
        for number, (name, path) in enumerate(each for each in arms.items() if each[1].is_file()):
            tag = f"{options.language}-arm{number}"
            table = msgspec.structs.replace(read_table(path, folder), language=tag)
            tables[tag] = Path(scratch, tag)
            tables[tag].write_bytes(table.encode())
            wishes[name] = (Source.DRAFTER, tag)
        speculation = SpeculationSettings(max_tokens=options.draft_tokens, tables=tables)
        with Engine(
            folder, dtype=options.dtype, speculation=speculation, max_model_len=longest
        ) as engine:
            first = [next(iter(asked.values()))]
            for wish in wishes.values():
                engine.answer(first, 16, *wish)  # what is slow the first time
            for place, temperature in enumerate(options.temperatures):
                numbers = [n for n in asked if n % len(options.temperatures) == place]
                found[str(temperature)] = _arms(
                    options, engine, [asked[number] for number in numbers], wishes
                )
    return found


def _arms(
    options: "EvaluateOptions",
    engine: Engine,
    asked: list[Question],
    wishes: Mapping[str, tuple[str, str | None]],
) -> dict[str, Any]:
    rows: dict[str, list[tuple[int, float, int, int]]] = {name: [] for name in wishes}
    loops: list[bool] = []
    for some in tqdm(list(batches(asked, options.timed_batch)), desc="timed"):
        loops.append(False)
        for name, wish in wishes.items():
            done = engine.answer(some, options.max_tokens, *wish)
            assert done.counts is not None
            tokens = sum(len(answer) - 1 for answer in done.answers)
            counts = done.counts
            rows[name].append((tokens, sum(done.decode_s), counts.tokens, counts.rows))
            loops[-1] |= any(map(is_looping, done.answers))
    chosen = [number for number, is_loop in enumerate(loops) if not is_loop]
    found: dict[str, Any] = {"batches": len(chosen), "looping_batches": sum(loops)}
    if not chosen:
        return found
    plain = None
    for name, each in rows.items():
        gained, seconds, tokens, steps = np.array(each)[chosen].sum(axis=0)
        rate = float(gained / seconds)
        plain = plain or rate
        found[name] = {
            "tokens_per_s": round(rate, 2),
            "tokens_per_step": round(float(tokens / steps), 4),
            "speedup": round(rate / plain, 4),
        }
    return found
