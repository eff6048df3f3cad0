"""What the parts of `headstart bench decode` have in common: a model, tables, and a checkpoint."""

import hashlib
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headstart.benchmarks.arms import Arm, rest_check
from headstart.benchmarks.arms import table as arms_table
from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.decode_engines import (
    LONG_NGRAM,
    NGRAM,
    draft_model,
    our_engines,
    plain_engines,
    random_drafter,
)
from headstart.benchmarks.decode_plan import FULL, QUICK, SEED, Plan
from headstart.benchmarks.decode_rig import DecodeRig, Rig
from headstart.benchmarks.decode_tasks import TABLE_LANGUAGES, questions, taught
from headstart.benchmarks.machine import here
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Part, run_part
from headstart.benchmarks.servers import single
from headstart.cluster import model_source
from headstart.cluster.engine_child import Asked
from headstart.cluster.tokenizer_hash import tokenizer_hash
from headstart.configs.model_settings import ModelSettings
from headstart.configs.settings import Settings
from headstart.stages.ngram_table import build

__all__ = ["Measure", "Setup", "make_tables", "opened", "run_parts"]

_TABLE_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Setup:
    """One run."""

    model: ModelSettings
    path: Path
    """Of the weights."""
    plan: Plan
    is_quick: bool
    data_dir: Path | None
    checkpoint: Checkpoint
    arms: list[Arm] = field(default_factory=list)
    """All engines that ran, of every part."""
    environments: dict[str, dict[str, str]] = field(default_factory=dict)
    """Theirs."""


Measure = Callable[[Setup], Part]


def run_parts(
    name: str, settings: Settings, options: BenchOptions, parts: Sequence[Measure]
) -> int:
    """Measure parts, each with engines of its own, write the report, and return the exit status.

    What is measured is kept beside the result until the run is over: a killed run goes on.

    Raises:
        SetupError: The settings name no model for vLLM, an engine does not start, or what was
            measured before belongs to another run.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    kept = options.json_path.with_suffix(".checkpoint.jsonl")
    status = run_part(name, options, lambda: _together(_setup(settings, options, kept), parts))
    kept.unlink(missing_ok=True)
    return status


def _together(setup: Setup, parts: Sequence[Measure]) -> Part:
    found = [part(setup) for part in parts]
    config: dict[str, Any] = {
        "plan": asdict(setup.plan),
        "model": setup.model.model_dump(mode="json"),
        "ngram": NGRAM,
        "long_ngram": LONG_NGRAM,
        "engine_environments": setup.environments,
        "prefix_cache": "off in all arms",
        "num_resumed": setup.checkpoint.num_resumed,
    }
    for each in found:
        config |= each.config
    tables = [table for each in found for table in each.tables]
    checks = [check for each in found for check in each.checks]
    if setup.arms:  # a run that was resumed at its end has none
        tables.append(arms_table(setup.arms))
        checks.append(rest_check(setup.arms))
    return Part(config, tables, checks)


def _setup(settings: Settings, options: BenchOptions, kept: Path) -> Setup:
    model = single(settings, "decode")
    arguments = model.engine_args | {"enable_prefix_caching": False}
    model = model.model_copy(update={"engine_args": arguments})
    plan = QUICK if options.is_quick else FULL
    prompts = [questions(task, sys.maxsize, options.data_dir, SEED) for task in plan.tasks]
    run = {
        "commit": here().commit,
        "plan": msgspec.to_builtins(plan, str_keys=True),
        "model": model.model_dump(mode="json"),
        "prompts": hashlib.sha256(repr(prompts).encode()).hexdigest(),
    }
    path = model_source.resolve(model.source, settings.cache_dir)
    checkpoint = Checkpoint(kept, run)
    return Setup(model, path, plan, options.is_quick, options.data_dir, checkpoint)


@contextmanager
def opened(setup: Setup, *, tries_drafter: bool = False) -> Iterator[DecodeRig]:
    """Have engines to ask, and n-gram tables of the model's own answers.

    Args:
        tries_drafter: Whether a full run has a draft model of random weights where there is none.
    """
    missing: dict[str, str] = {}
    drafts: dict[str, Mapping[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="headstart-bench-") as name:
        folder = Path(name)
        if (draft := draft_model(setup.model)) is not None:
            drafts["draft"] = draft
        else:
            missing["draft"] = "there is no draft model for these weights yet"
        if draft is None and tries_drafter and not setup.is_quick:
            drafts["random"] = random_drafter(setup.path, folder / "drafter")
        else:
            missing["random"] = "tried in full runs, where there is no draft model"
        engines = plain_engines(setup.model, drafts)
        with DecodeRig(setup.path, folder, engines, missing) as rig:
            tables = make_tables(rig, setup, folder)
            rig.engines.update(our_engines(setup.model, tables))
            yield rig
            setup.arms.extend(rig.arms)
            setup.environments.update(rig.environments)


def make_tables(rig: Rig, setup: Setup, folder: Path) -> Mapping[str, Path]:
    """Write n-gram tables of the plain engine's answers to prompts that are asked nowhere else."""
    size = int(json.loads((setup.path / "config.json").read_bytes())["vocab_size"])
    how: dict[str, Any] = {"vocabulary": size, "tokenizer": tokenizer_hash(setup.path)}
    found: dict[str, Path] = {}
    for language in TABLE_LANGUAGES:
        key = f"table/{language}"
        answers: list[list[int]] | None = setup.checkpoint.get(key, list[list[int]])
        if answers is None:
            asked = [Asked(text) for text in taught(language, setup.plan.table_prompts)]
            told = setup.plan.told_tokens
            answers = rig.ask("plain", asked, told, at_once=_TABLE_AT_ONCE).answers
            setup.checkpoint.put(key, answers)
        path = found[language] = folder / f"{language}.table"
        path.write_bytes(build(answers, language=language, **how).encode())
    return found
