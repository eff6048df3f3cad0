"""Drafters of the server's worker, timed in its engine: the arms in turn, prompt by prompt.

Rows are kept as they are measured, so that a killed run goes on with the next prompt.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from headstart.configs.speculation import SpeculationSettings
from headstart.recipes.answering import Question
from headstart.recipes.engine import Engine
from headstart.recipes.prompts import batches
from headstart.recipes.samples import Lines, claim
from headstart.recipes.table_building import read_table
from headstart.stages.drafting import Source
from headstart.stages.errors import SetupError
from headstart.stages.looping import is_looping

if TYPE_CHECKING:
    from headstart.recipes.drafter_evaluating import EvaluateOptions

__all__ = ["figures_of", "timed", "timed_tables"]

Row = dict[str, Any]
"""A turn: `temperature`, `prompts`, `loops`, and what each of `arms` had."""
Turn = tuple[float, list[int]]

_WARM_UP_TOKENS = 16
_LEAST_FOR_INTERVAL = 8


def timed_tables(options: "EvaluateOptions", arms: Mapping[str, Path]) -> dict[str, Path]:
    """Return the tables to time, `auto` and its own among them.

    Raises:
        SetupError: What is to be timed is not there.
    """
    tables = {name: path for name, path in arms.items() if path.is_file()}
    if options.timed_num is not None and options.timed_num % options.timed_batch:
        raise SetupError("--timed-num takes a multiple of --timed-batch: others come later")
    if missing := set(options.timed_temperatures) - set(options.temperatures):
        raise SetupError(f"--timed-temperatures takes some of --temperatures: {min(missing)}")
    if unknown := set(options.timed_tables) - tables.keys():
        raise SetupError(f"--timed-tables takes names of tables in --drafters: {min(unknown)}")
    tables = {name: tables[name] for name in options.timed_tables or tables}
    shipped = options.auto or next(iter(tables), None)
    if shipped is not None and shipped not in tables:
        raise SetupError(f"--auto takes the name of a table that is timed: {shipped}")
    if shipped is not None:
        tables["auto"] = tables[shipped]
    return tables


def timed(
    options: "EvaluateOptions",
    folder: Path,
    asked: Mapping[int, Question],
    arms: Mapping[str, Path],
) -> list[Row]:
    """Measure the turns that have not been measured; returns all of them.

    Neural drafters are no part of it: the worker hosts tables and copying. The engine drafts as it
    serves: what pays, up to `--draft-tokens`. An arm's table is chosen by a language tag that is
    its own for as long as this takes, so that none learns how good another is; what is learnt of
    copying is everybody's. Each turn begins with the next arm. Nothing is seeded: seeds have a
    slower path, and no drafts.

    Raises:
        SetupError: Other drafters or options were timed in this folder.
    """
    tables = timed_tables(options, arms)
    out = options.out / "timed"
    identity = {name: getattr(options, name) for name in ("draft_tokens", "timed_batch")}
    files = {name: sha256(path.read_bytes()).hexdigest() for name, path in tables.items()}
    claim(out, identity | {"tables": files})
    rows = Lines(out / "rows.jsonl")
    known = {(row["temperature"], tuple(row["prompts"])) for row in rows}
    turns = _turns(options, asked)
    if any((temperature, tuple(some)) not in known for temperature, some in turns):
        with tempfile.TemporaryDirectory() as scratch:
            _measure(options, folder, asked, tables, Path(scratch), turns, known, rows)
    return list(rows)


def _turns(options: "EvaluateOptions", asked: Mapping[int, Question]) -> list[Turn]:
    """Return who is asked together, the temperatures taking turns, too."""
    num = len(options.temperatures)
    by_place = [
        list(
            batches(
                [each for each in asked if each % num == place][: options.timed_num],
                options.timed_batch,
            )
        )
        for place in range(num)
    ]
    most = max(map(len, by_place))
    wanted = options.timed_temperatures or options.temperatures
    return [
        (temperature, list(some[turn]))
        for turn in range(most)
        for temperature, some in zip(options.temperatures, by_place, strict=True)
        if turn < len(some) and temperature in wanted
    ]


def _measure(
    options: "EvaluateOptions",
    folder: Path,
    asked: Mapping[int, Question],
    tables: Mapping[str, Path],
    scratch: Path,
    turns: Sequence[Turn],
    known: set[tuple[float, tuple[int, ...]]],
    rows: Lines,
) -> None:
    wishes: dict[str, tuple[str, str | None]] = {
        "none": ("off", None),
        "ngram": (Source.COPY, None),
        "auto": ("auto", None),
    }
    paths = {}
    for number, (name, path) in enumerate(tables.items()):
        tag = f"{options.language}-arm{number}"
        table = msgspec.structs.replace(read_table(path, folder), language=tag)
        paths[tag] = scratch / tag
        paths[tag].write_bytes(table.encode())
        wishes[name] = ("auto" if name == "auto" else Source.DRAFTER, tag)
    speculation = SpeculationSettings(max_tokens=options.draft_tokens, tables=paths)
    longest = max(len(each.prompt) for each in asked.values()) + options.max_tokens
    with Engine(
        folder, dtype=options.dtype, speculation=speculation, max_model_len=longest
    ) as engine:
        first = [next(iter(asked.values()))]
        for wish in wishes.values():
            engine.answer(first, _WARM_UP_TOKENS, *wish)  # what is slow the first time
        names, num_temperatures = list(wishes), len({temperature for temperature, _ in turns})
        for turn, (temperature, some) in enumerate(tqdm(turns, desc="timed")):
            if (temperature, tuple(some)) in known:
                continue
            questions = [replace(asked[number], seed=None) for number in some]
            begin = turn // num_temperatures % len(names)
            row: Row = {"temperature": temperature, "prompts": some, "loops": False, "arms": {}}
            for name in (*names[begin:], *names[:begin]):
                done = engine.answer(questions, options.max_tokens, *wishes[name])
                assert done.counts is not None
                row["arms"][name] = {
                    "gained": sum(max(0, len(answer) - 1) for answer in done.answers),
                    "seconds": sum(done.decode_s),
                    "tokens": done.counts.tokens,
                    "steps": done.counts.rows,
                }
                row["loops"] |= any(map(is_looping, done.answers))
            rows.add([row])


def figures_of(rows: Sequence[Row]) -> dict[str, Any]:
    """Return tokens a second and a step by temperature and arm, turns that loop left out."""
    found: dict[str, Any] = {}
    for temperature in sorted({row["temperature"] for row in rows}):
        drawn = [row for row in rows if row["temperature"] == temperature]
        fit = [row["arms"] for row in drawn if not row["loops"]]
        part = found[str(temperature)] = {
            "batches": len(fit),
            "looping_batches": len(drawn) - len(fit),
        }
        if fit:
            part |= _by_arm(fit)
    return found


def _by_arm(fit: Sequence[dict[str, dict[str, float]]]) -> dict[str, Any]:
    picks = np.random.default_rng(0).integers(len(fit), size=(1000, len(fit)))
    plain = _sums(fit, "none", picks)
    found = {}
    for name in ("none", *sorted(fit[0].keys() - {"none"})):
        sums = _sums(fit, name, picks)
        rates = sums["gained"] / sums["seconds"]
        ratios = rates * plain["seconds"] / plain["gained"]
        ends = [round(float(each), 4) for each in np.percentile(ratios[1:], [2.5, 97.5])]
        found[name] = {
            "tokens_per_s": round(float(rates[0]), 2),
            "tokens_per_step": round(float(sums["tokens"][0] / sums["steps"][0]), 4),
            "speedup": round(float(ratios[0]), 4),
            "speedup_95": ends if len(fit) >= _LEAST_FOR_INTERVAL else None,
        }
    return found


def _sums(
    fit: Sequence[dict[str, dict[str, float]]], arm: str, picks: Any
) -> dict[str, "np.ndarray[Any, np.dtype[np.float64]]"]:
    """Return an arm's sums over all turns, then over each draw of them."""
    found = {}
    for kind in fit[0][arm]:
        each = np.array([turn[arm][kind] for turn in fit], dtype=np.float64)
        found[kind] = np.concatenate([[each.sum()], each[picks].sum(axis=1)])
    return found
