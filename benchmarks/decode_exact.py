"""`headstart bench decode-exact`: whether drafts ever change an answer, in float32.

The same prompts go to the plain engine and, once in each mode, to ours: different modes side by
side, up to sixteen under way, in a cache that is too small for them, so that some lose their place
and are computed anew. Half of the batches draft whatever is on offer, half as much as the
controller lets. Some prompts go to a pool's engine besides, in which a model drafts: this one,
disturbed so that it is right now and then.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path

import msgspec

from headstart.benchmarks.checks import Bar, Check, judge, not_measured
from headstart.benchmarks.decode_engines import MODEL_DRAFTS, disturbed, model_drafts
from headstart.benchmarks.decode_plan import SEED, Plan
from headstart.benchmarks.decode_rig import Rig
from headstart.benchmarks.decode_setup import Setup, opened, run_parts
from headstart.benchmarks.decode_tasks import input_language, questions
from headstart.benchmarks.estimates import exactly
from headstart.benchmarks.live_scores import INEXACT, TIES
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.prompts import prompts
from headstart.benchmarks.report import Part, Table
from headstart.benchmarks.ties import TIE, tie_gap
from headstart.cluster.engine_child import Asked, Done
from headstart.configs.settings import Settings
from headstart.stages.drafting import Source
from headstart.stages.errors import SetupError
from headstart.stages.wish import wish_arguments

__all__ = ["Batch", "Compared", "batches", "checks", "measure", "run", "table"]

MODES = ("auto", Source.COPY, Source.JACOBI, Source.DRAFTER, "off")
ENGINES = ("exact forced", "exact adaptive")
_MOST_CHARS = 1200
"""Of a prompt: with its answer it must fit the small cache."""
_LEAST_ASKED = 5
"""In a batch, but for the last of its kind."""
NUM_COMPARED = Bar("answers_compared_in_each_mode", 500, "higher", "answers")
PREEMPTED = Bar("preemptions_while_compared", 1, "higher", "preemptions")
DRAFTED = Bar("kinds_with_accepted_drafts", len(Source), "higher", "kinds")


class Batch(msgspec.Struct, frozen=True):
    """Prompts that are asked together."""

    number: int
    at_once: int
    """Most that are under way."""
    texts: list[tuple[str, str]]
    """Each with its input's language."""
    rounds: list[list[str]]
    """The modes of all prompts, each time that they are asked."""
    engine: str
    """Who is compared with the plain engine."""


class Compared(msgspec.Struct, frozen=True):
    """One prompt's two answers."""

    mode: str
    engine: str
    at_once: int
    num_tokens: int
    is_same: bool
    gap: float | None
    """As `tie_gap`, where they differ."""

    @property
    def is_tie(self) -> bool:
        """Whether they part at a proven tie."""
        return self.gap is not None and self.gap <= TIE


class Found(msgspec.Struct, frozen=True):
    """What a batch gave."""

    compared: list[Compared]
    preempted: int
    accepted: dict[str, int]
    """Drafted tokens that became part of an answer, by kind of draft."""


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, write the report, and return the exit status.

    Raises:
        SetupError: As `run_parts`.
    """
    return run_parts("decode-exact", settings, options, [measure])


def measure(setup: Setup) -> Part:
    """Compare answers."""
    texts = _texts(setup)
    with opened(setup) as rig, tempfile.TemporaryDirectory(prefix="headstart-bench-") as name:
        drafter = disturbed(setup.path, Path(name))
        rig.engines[MODEL_DRAFTS] = model_drafts(setup.model, drafter)
        found = [compared(rig, setup, batch) for batch in batches(texts, setup.plan)]
    config = {
        "exactness": "float32; each prompt in each mode; the plain engine with the two likeliest "
        f"tokens of each place; a tie is a gap of at most {TIE} between their logits",
    }
    return Part(config, [table(found)], list(checks(found, is_quick=setup.is_quick)))


def _texts(setup: Setup) -> list[tuple[str, str]]:
    """Return prompts of all tasks in turn, then plain ones; each with its language."""
    num = sum(setup.plan.exact.values())
    by_task = [
        [(text, input_language(task)) for text in questions(task, num, setup.data_dir, SEED)]
        for task in setup.plan.tasks
    ]
    mixed = [each for row in zip_longest(*by_task) for each in row if each is not None]
    own = [(text, "en") for text in prompts(None, SEED)]
    fit = [(text, language) for text, language in chain(mixed, own) if len(text) <= _MOST_CHARS]
    return list(dict.fromkeys(fit))[:num]


def batches(texts: Sequence[tuple[str, str]], plan: Plan) -> Iterator[Batch]:
    """Put every prompt into one batch, and have it in all modes; then have a model draft."""
    number = 0
    for at_once, part in _parts(texts, plan.exact):
        # Begun elsewhere in each round: a mode shall have other neighbours.
        rounds = [
            [str(MODES[(index + number + turn) % len(MODES)]) for index in range(len(part))]
            for turn in range(plan.exact_rounds)
        ]
        yield Batch(number, at_once, part, rounds, ENGINES[number % len(ENGINES)])
        number += 1
    for at_once, part in _parts(texts, plan.exact_model):
        yield Batch(number, at_once, part, [len(part) * [str(Source.MODEL)]], MODEL_DRAFTS)
        number += 1


def _parts(
    texts: Sequence[tuple[str, str]], nums: Mapping[int, int]
) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Yield prompts that are asked together, as many as `nums` has for so many at once."""
    at = 0
    for at_once, num in nums.items():
        end = min(at + num, len(texts))
        while at < end:
            until = min(end, at + max(_LEAST_ASKED, 2 * at_once))
            yield at_once, list(texts[at:until])
            at = until


def compared(rig: Rig, setup: Setup, batch: Batch) -> Found:
    """Have both engines answer, unless that has been done.

    Raises:
        SetupError: An answer is shorter than asked for.
    """
    key = f"exact/{batch.number}"
    found: Found | None = setup.checkpoint.get(key, Found)
    if found is None:
        tokens = setup.plan.exact_tokens
        how = {"ignore_eos": True, "at_once": batch.at_once}
        asked = [Asked(text) for text, _ in batch.texts]
        plain = rig.ask("exact plain", asked, tokens, num_best=2, **how)
        ours = [
            rig.ask(batch.engine, _drafted(batch, modes), tokens, **how) for modes in batch.rounds
        ]
        every = chain.from_iterable(done.answers for done in (plain, *ours))
        if any(len(answer) < tokens for answer in every):
            raise SetupError(f"an answer in float32 has less than the {tokens} tokens asked for")
        found = Found(
            [
                one
                for pair in zip(batch.rounds, ours, strict=True)
                for one in _compare(batch, plain, *pair)
            ],
            sum(done.preempted for done in ours),
            dict(_sum(_accepted(done) for done in ours)),
        )
        setup.checkpoint.put(key, found)
        same = sum(one.is_same for one in found.compared)
        print(f"exact, {batch.at_once} at once: {same} of {len(found.compared)}", flush=True)
    return found


def _drafted(batch: Batch, modes: Sequence[str]) -> list[Asked]:
    return [
        Asked(text, wish_arguments(mode, language))
        for (text, language), mode in zip(batch.texts, modes, strict=True)
    ]


def _compare(batch: Batch, plain: Done, modes: Sequence[str], ours: Done) -> list[Compared]:
    found = []
    answers = zip(modes, plain.answers, plain.best, ours.answers, strict=True)
    for mode, right, best, answer in answers:
        is_same = answer == right
        gap = None if is_same else tie_gap(right, best, right, answer)
        kind = (mode, batch.engine, batch.at_once)
        found.append(Compared(*kind, len(answer), is_same, gap))
    return found


def _accepted(done: Done) -> dict[str, int]:
    assert done.counts is not None
    return {name: sum(source.accepted) for name, source in done.counts.sources.items()}


def checks(found: Sequence[Found], *, is_quick: bool) -> Iterator[Check]:
    """Judge what was compared, and that there was something to go wrong."""
    every = [one for each in found for one in each.compared]
    if not every:
        for bar in (INEXACT, TIES, NUM_COMPARED, PREEMPTED, DRAFTED):
            yield not_measured(bar, "no prompts")
        return
    note = f"{len(every)} answers of at least {min(one.num_tokens for one in every)} tokens"
    differ = sum(not one.is_same and not one.is_tie for one in every)
    yield judge(INEXACT, exactly(differ), note=note)
    ties = sum(one.is_tie for one in every)
    accepted = _sum(each.accepted for each in found)
    asked = Counter(one.mode for one in every if one.engine in ENGINES)
    fewest = min(asked[mode] for mode in MODES)
    if is_quick:
        yield not_measured(TIES, f"{ties} of {len(every)}: too few to tell")
        yield not_measured(NUM_COMPARED, f"{len(every)} in a quick run")
        yield not_measured(DRAFTED, f"too few answers to tell; {_told(accepted)}")
    else:
        yield judge(TIES, exactly(500 * ties / len(every)), note=note)
        yield judge(NUM_COMPARED, exactly(fewest))
        yield judge(DRAFTED, exactly(sum(map(bool, accepted.values()))), note=_told(accepted))
    yield judge(PREEMPTED, exactly(sum(each.preempted for each in found)))


def _told(accepted: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {num} tokens accepted" for name, num in accepted.items())


def _sum(found: Iterable[Mapping[str, int]]) -> Counter[str]:
    accepted: Counter[str] = Counter()
    for each in found:
        accepted.update(each)
    return accepted


def table(found: Sequence[Found]) -> Table:
    """Say how many are the same, by mode, engine and how many were under way."""
    every = [one for each in found for one in each.compared]
    kinds = dict.fromkeys((one.engine, one.at_once, one.mode) for one in every)
    rows: list[tuple[str | float | int | None, ...]] = []
    for engine, at_once, mode in sorted(kinds):
        kind = (engine, at_once, mode)
        own = [one for one in every if (one.engine, one.at_once, one.mode) == kind]
        same, ties = sum(one.is_same for one in own), sum(one.is_tie for one in own)
        rows.append((engine, at_once, mode, len(own), same, ties, len(own) - same - ties))
    columns = ("engine", "at_once", "mode", "answers", "same", "ties", "different")
    return Table("Answers in float32 beside the plain engine's", columns, tuple(rows))
