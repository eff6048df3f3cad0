"""`headstart bench decode-speed`: several tokens a step beside vLLM's own, by set, language, load.

Each prompt belongs to one block, which every lane answers. The plain engine has answered all of
them beforehand, to tell which answers loop: those make blocks of their own, which no bar looks at.
"""

from collections.abc import Sequence

import msgspec

from headstart.benchmarks import decode_plan, decode_scores
from headstart.benchmarks.decode_plan import SEED, Block, Group, Lane
from headstart.benchmarks.decode_rig import Rig
from headstart.benchmarks.decode_scores import Left, Measured, Ran
from headstart.benchmarks.decode_setup import Setup, opened, run_parts
from headstart.benchmarks.decode_tasks import questions
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.report import Part
from headstart.cluster.engine_child import Asked
from headstart.configs.settings import Settings
from headstart.stages.looping import is_looping

__all__ = ["measure", "run"]

_TOLD_AT_ONCE = 16
_SPARED = 4
"""Of so many prompts one is expected to lead to a loop."""
_OPTIONAL = ("suffix", "draft", "random")


class _Told(msgspec.Struct):
    """What the plain engine said beforehand of a task's prompts."""

    answers: list[list[int]]


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, write the report, and return the exit status.

    Raises:
        SetupError: As `run_parts`.
    """
    return run_parts("decode-speed", settings, options, [measure])


def measure(setup: Setup) -> Part:
    """Measure the speed of every lane."""
    with opened(setup, tries_drafter=True) as rig:
        rig.ready(_OPTIONAL)
        groups = [group for task in setup.plan.tasks for group in grouped(rig, setup, task)]
        found = [
            measured(rig, setup, block)
            for group in groups
            for block in decode_plan.blocks(group, setup.plan)
        ]
        missing = dict(rig.missing)
    config = {
        "not_measured": missing,
        "prompts": "each in one block; a block is answered by every lane, in turning order",
    }
    left = [Left(one.task, one.is_looping, len(one.texts)) for one in groups]
    checks = decode_scores.checks(found, setup.plan, missing, is_quick=setup.is_quick)
    return Part(config, decode_scores.tables(found, left), list(checks))


def grouped(rig: Rig, setup: Setup, task: str) -> Sequence[Group]:
    """Tell the prompts of a task apart by whether the plain engine's answers loop."""
    plan = setup.plan
    needed = sum(size * most for size, most in plan.blocks.items())
    texts = questions(task, needed + needed // _SPARED, setup.data_dir, SEED)
    key = f"told/{task}"
    told: _Told | None = setup.checkpoint.get(key, _Told)
    if told is None:
        told = _Told(_answers(rig, texts, plan.told_tokens) if texts else [])
        setup.checkpoint.put(key, told)
    loops = [_loops(answer, plan.answer_tokens) for answer in told.answers]
    print(f"{task}: {sum(loops)} of {len(texts)} answers loop", flush=True)
    return [
        Group(
            task,
            kind,
            [text for text, one in zip(texts, loops, strict=True) if one is kind],
            [
                answer[: plan.answer_tokens]
                for answer, one in zip(told.answers, loops, strict=True)
                if one is kind
            ],
        )
        for kind in (False, True)
    ]


def _answers(rig: Rig, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    asked = [Asked(text) for text in texts]
    return rig.ask("plain", asked, max_tokens, at_once=_TOLD_AT_ONCE).answers


def _loops(answer: Sequence[int], answer_tokens: int) -> bool:
    return is_looping(answer) or is_looping(answer[:answer_tokens])


def measured(rig: Rig, setup: Setup, block: Block) -> Measured:
    """Have every lane answer a block, unless that has been done."""
    key = f"speed/{block.key}"
    lanes: dict[str, Ran] | None = setup.checkpoint.get(key, dict[str, Ran])
    if lanes is None:
        asked = decode_plan.asked_by(block, rig.missing)
        lanes = {lane.name: _ran(rig, setup, lane, block) for lane in asked}
        setup.checkpoint.put(key, lanes)
        said = ", ".join(f"{name} {one.speed:.1f}" for name, one in lanes.items())
        print(f"{block.key}: {said} tokens/s", flush=True)
    return Measured(block, lanes)


def _ran(rig: Rig, setup: Setup, lane: Lane, block: Block) -> Ran:
    asked = [Asked(text, lane.arguments(block.task)) for text in block.texts]
    done = rig.ask(lane.engine, asked, setup.plan.answer_tokens)
    return Ran(done.answers, max(done.last_s), sum(done.decode_s), done.counts)
