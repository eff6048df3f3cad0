"""How much `headstart bench decode` measures, by which lanes, and which prompt belongs to which
block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headstart.benchmarks.decode_tasks import COPIED, TASKS, input_language
from headstart.stages.drafting import Source
from headstart.stages.wish import wish_arguments

__all__ = [
    "FULL",
    "LANES",
    "QUICK",
    "SEED",
    "SIZES",
    "Block",
    "Group",
    "Lane",
    "Plan",
    "asked_by",
    "blocks",
]

SEED = 7
SIZES = (1, 4, 8, 16)
"""How many are asked at once."""
_LOOPS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    tasks: tuple[str, ...]
    blocks: Mapping[int, int]
    """By how many are asked at once: a block is as many answers by every lane."""
    answer_tokens: int
    told_tokens: int
    """Of the answers by which the plain engine tells beforehand which prompts lead to loops."""
    loop_blocks: int
    """Of prompts that do, of each task, besides."""
    exact: Mapping[int, int]
    """Answers that are compared in float32, by how many are under way at once."""
    exact_model: Mapping[int, int]
    """The same, of those that are answered once more where a model drafts."""
    exact_rounds: int
    """In which they are asked again, each in another mode."""
    exact_tokens: int
    rounds: int
    """In which costs and replayed drafts are measured again."""
    replay_tokens: int
    crowd_tokens: int
    """Of each of sixteen answers at once, where nothing is accepted."""
    table_prompts: int


FULL = Plan(
    tasks=TASKS,
    blocks=dict.fromkeys(SIZES, 8),
    answer_tokens=48,
    told_tokens=96,
    loop_blocks=1,
    exact={1: 10, 2: 20, 4: 30, 8: 60, 16: 380},
    exact_model={1: 5, 4: 16, 16: 32},
    exact_rounds=5,
    exact_tokens=64,
    rounds=8,
    replay_tokens=73,
    crowd_tokens=32,
    table_prompts=24,
)
QUICK = Plan(
    tasks=("edit", "translate_de"),
    blocks={1: 1, 16: 1},
    answer_tokens=48,
    told_tokens=64,
    loop_blocks=0,
    exact={1: 2, 4: 6, 16: 16},
    exact_model={4: 6},
    exact_rounds=1,
    exact_tokens=64,
    rounds=1,
    replay_tokens=48,
    crowd_tokens=16,
    table_prompts=8,
)


@dataclass(frozen=True, slots=True)
class Lane:
    """A way to decode: an engine, and what its requests ask for."""

    name: str
    engine: str
    mode: str | None = None
    tasks: tuple[str, ...] = ()
    """Those that it has a part in; empty for all."""
    sizes: tuple[int, ...] = ()
    """The same, of how many are asked at once."""
    most_blocks: int | None = None

    def has_part(self, block: "Block") -> bool:
        """Whether it answers a block."""
        return (
            (not self.tasks or block.task in self.tasks)
            and (not self.sizes or block.size in self.sizes)
            and (self.most_blocks is None or block.number < self.most_blocks)
        )

    def arguments(self, task: str) -> dict[str, str]:
        """Return what it asks for."""
        if self.mode is None:
            return {}
        return wish_arguments(self.mode, input_language(task))


LANES = (
    Lane("plain", "plain"),
    Lane("vllm ngram", "ngram"),
    Lane("vllm long ngram", "long ngram", tasks=COPIED),
    Lane("vllm suffix", "suffix"),
    Lane("vllm draft model", "draft"),
    Lane("vllm random drafts", "random", sizes=(1, 4), most_blocks=1),
    Lane("copy", "modes", "copy"),
    Lane("auto", "auto", "auto"),
    Lane("auto by batch", "batch", "auto", sizes=(4, 8, 16)),
    Lane("off", "modes", "off", tasks=("edit", "gsm8k"), sizes=(1, 16)),
    Lane("table", "modes", Source.DRAFTER, tasks=("gsm8k", "translate_de"), sizes=(1, 4)),
    Lane("jacobi", "modes", Source.JACOBI, sizes=(1,)),
)
"""No engine learns of an answer before it is measured: acceptance is learnt by kind of draft, so
`copy`, `drafter` and `jacobi` share an engine, and `auto`, which uses them all, has its own."""


@dataclass(frozen=True, slots=True)
class Group:
    """Prompts of a task, whose plain answers loop or not, with the beginnings of those answers."""

    task: str
    is_looping: bool
    texts: list[str]
    answers: list[list[int]]


@dataclass(frozen=True, slots=True)
class Block:
    """Prompts that are asked at once, by one lane after the other."""

    task: str
    size: int
    number: int
    is_looping: bool
    texts: list[str] = field(default_factory=list)
    known: list[list[int]] = field(default_factory=list)
    """How the plain engine answered beforehand, beside others."""

    @property
    def key(self) -> str:
        """Its name among all."""
        kind = "loops" if self.is_looping else "answers"
        return f"{self.task}/{kind}/{self.size}/{self.number}"


def blocks(group: Group, plan: Plan) -> list[Block]:
    """Give every prompt to one block at most; where there are too few, there are fewer blocks."""
    wanted = {_LOOPS_AT_ONCE: plan.loop_blocks} if group.is_looping else plan.blocks
    found: list[Block] = []
    at = 0
    for number in range(max(wanted.values(), default=0)):
        for size, most in wanted.items():
            end = at + size
            if number < most and end <= len(group.texts):
                known = group.answers[at:end]
                texts = group.texts[at:end]
                found.append(Block(group.task, size, number, group.is_looping, texts, known))
                at = end
    return found


def asked_by(block: Block, missing: Mapping[str, str]) -> Sequence[Lane]:
    """Return the lanes of a block in the order in which they are asked, which turns.

    Args:
        missing: Engines that cannot be measured, and why.
    """
    lanes = [lane for lane in LANES if lane.has_part(block) and lane.engine not in missing]
    return lanes[::-1] if block.number % 2 else lanes
