"""`headstart bench decode-plumbing`: what a step costs, and how much of it is ours.

Everything is measured again in each of several rounds, on prompts of its own, one arm after the
other; rounds are the blocks of every interval. Drafts that are right by construction replay an
answer that is known. All of a length are judged; beside them is what the controller makes of the
same, which has first to learn how many are right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from headstart.benchmarks.decode_engines import BLOCK_TOKENS, MOST_VERIFIED
from headstart.benchmarks.decode_plan import SEED, Plan
from headstart.benchmarks.decode_rig import Rig
from headstart.benchmarks.decode_setup import Setup, opened, run_parts
from headstart.benchmarks.decode_tasks import taught
from headstart.benchmarks.options import BenchOptions
from headstart.benchmarks.plumbing_scores import (
    CROWDS,
    REPLAY_TOKENS,
    REPLAYED,
    Crowd,
    Replay,
    Round,
    checks,
    tables,
)
from headstart.benchmarks.prompts import prompts
from headstart.benchmarks.replay_drafter import Replayed, write_answers
from headstart.benchmarks.report import Part
from headstart.cluster.engine_child import Asked, Done
from headstart.configs.settings import Settings
from headstart.stages.drafting import Source
from headstart.stages.speculation_counts import SpeculationCounts
from headstart.stages.wish import wish_arguments

__all__ = ["Prober", "measure", "replayed", "run", "step_s"]

VERIFIED = (1, 2, 4, 8, REPLAY_TOKENS + 1, 16, MOST_VERIFIED)
REPLAY_TRIES = 5
REPLAY_RUNS = 3
"""Of an answer that has settled: eight right tokens in each step are through with it in eight."""
_OFF = wish_arguments("off")


def run(settings: Settings, options: BenchOptions) -> int:
    """Measure, write the report, and return the exit status.

    Raises:
        SetupError: As `run_parts`.
    """
    return run_parts("decode-plumbing", settings, options, [measure])


def measure(setup: Setup) -> Part:
    """Measure costs, replayed drafts, and steps in which nothing is accepted."""
    plan, most = setup.plan, max(CROWDS)
    known = set(taught("en", plan.table_prompts))
    texts = [text for text in prompts(None, SEED) if text not in known]
    with opened(setup) as rig, TemporaryDirectory(prefix="headstart-bench-") as folder:
        prober = Prober(rig, plan, Path(folder) / "answers")
        found = [
            _round(prober, setup, number, texts[number * most : (number + 1) * most])
            for number in range(plan.rounds)
        ]
    config = {
        "replay": f"{REPLAY_TOKENS} tokens drafted in each step, so many right, with the model's "
        f"predictions captured; mean of {REPLAY_RUNS} runs once the answer is settled, less the "
        "plain steps at its end, where a whole draft has no room",
        "nothing_accepted": f"copying, table and Jacobi block are asked for {BLOCK_TOKENS} tokens, "
        "which are thrown away for wrong ones of one length; beside the same wrong ones without",
    }
    return Part(config, tables(found), list(checks(found, is_quick=setup.is_quick)))


def _round(prober: "Prober", setup: Setup, number: int, texts: list[str]) -> Round:
    key = f"plumbing/{number}"
    found: Round | None = setup.checkpoint.get(key, Round)
    if found is None:
        found = prober.round(texts, is_reversed=number % 2 == 1)
        setup.checkpoint.put(key, found)
        print(f"plumbing: round {number + 1} of {setup.plan.rounds}", flush=True)
    return found


@dataclass(frozen=True, slots=True)
class Prober:
    """Asks for what a round consists of."""

    rig: Rig
    plan: Plan
    answers: Path
    """Where known answers are put for the drafter."""

    def round(self, texts: list[str], *, is_reversed: bool) -> Round:
        """Measure everything once.

        Args:
            texts: As many as are asked at once at most; the first is also asked alone.
            is_reversed: Whether arms change places.
        """
        known = self._known(texts[:1], self.plan.replay_tokens)
        sizes = VERIFIED[::-1] if is_reversed else VERIFIED
        return Round(
            {str(num): self._verifying(known.prompts, num) for num in sizes},
            {str(right): self._replay("forced", known, right, is_reversed) for right in REPLAYED},
            {str(right): self._replay("replay", known, right, is_reversed) for right in REPLAYED},
            {str(size): self._crowd(texts[:size], is_reversed) for size in CROWDS},
        )

    def _ask(
        self, engine: str, prompts: list[list[int]], arguments: Mapping[str, str], tokens: int
    ) -> Done:
        asked = [Asked(prompt, dict(arguments)) for prompt in prompts]
        return self.rig.ask(engine, asked, tokens, ignore_eos=True)

    def _known(self, texts: list[str], tokens: int) -> Done:
        """Have prompts answered without drafts, and tell the drafter."""
        asked = [Asked(text, _OFF) for text in texts]
        done = self.rig.ask("forced", asked, tokens, ignore_eos=True)
        self._tell(done)
        return done

    def _tell(self, done: Done) -> None:
        write_answers(self.answers, list(zip(done.prompts, done.answers, strict=True)))

    def _verifying(self, prompts: list[list[int]], num: int) -> float:
        """Return seconds of a step that verifies so many tokens, the last known one included."""
        how = Replayed(str(self.answers), 0, num - 1)
        arguments = how.arguments(Source.DRAFTER) if num > 1 else _OFF
        done = self._ask("forced", prompts, arguments, self.plan.replay_tokens)
        assert done.counts is not None
        return step_s(done.counts, is_verified=num > 1)

    def _replay(self, engine: str, known: Done, right: int, is_reversed: bool) -> Replay:
        """Measure drafts of an engine that forces their length, or leaves it to the controller."""
        plain = self._plain(known) if is_reversed else None
        self._tell(known)
        done = self._replayed(engine, known, right)
        for _ in range(REPLAY_TRIES):
            # Steps of another size round otherwise, and may have another answer: that is then
            # known.
            self._tell(done)
            before, done = done, self._replayed(engine, known, right)
            if done.answers == before.answers:
                break
        again = (self._replayed(engine, known, right) for _ in range(REPLAY_RUNS - 1))
        return replayed(right, plain or self._plain(known), [done, *again])

    def _plain(self, known: Done) -> Done:
        return self._ask("plain", known.prompts, {}, self.plan.replay_tokens)

    def _replayed(self, engine: str, known: Done, right: int) -> Done:
        how = Replayed(str(self.answers), right, REPLAY_TOKENS)
        arguments = how.arguments(Source.JACOBI)
        return self._ask(engine, known.prompts, arguments, self.plan.replay_tokens)

    def _crowd(self, texts: list[str], is_reversed: bool) -> Crowd:
        """Measure wrong drafts with and without what makes drafts, and the controller's few."""
        tokens = self.plan.replay_tokens if len(texts) == 1 else self.plan.crowd_tokens
        known = self._known(texts, tokens)
        bare = Replayed(str(self.answers), 0, REPLAY_TOKENS)
        full = Replayed(str(self.answers), 0, REPLAY_TOKENS, "en", BLOCK_TOKENS)
        arms = {
            "bare": ("forced", bare.arguments(Source.DRAFTER)),
            "full": ("forced", full.arguments("auto")),
            "off": ("replay", _OFF),
            "auto": ("replay", full.arguments("auto")),
        }
        done = {}
        for name in reversed(arms) if is_reversed else arms:
            engine, arguments = arms[name]
            done[name] = self._ask(engine, known.prompts, arguments, tokens)
        counts = done["full"].counts
        assert counts is not None
        return Crowd(
            full_s=_decoding_s(done["full"]),
            bare_s=_decoding_s(done["bare"]),
            auto_s=_decoding_s(done["auto"]),
            off_s=_decoding_s(done["off"]),
            draft_s=counts.draft_s / counts.steps,
            accepted=sum(sum(source.accepted) for source in counts.sources.values()),
        )


def step_s(counts: SpeculationCounts, *, is_verified: bool) -> float:
    """Return mean seconds of the steps that verified a draft, or that did not; those that
    computed a prompt besides are left out."""
    if is_verified:
        return counts.verify_s / counts.verify_steps
    return counts.plain_s / counts.plain_steps


def replayed(right: int, plain: Done, runs: Sequence[Done]) -> Replay:
    """Return what drafts of which so many are right gave an answer, while there was room for them.

    At the end of an answer there is none for a whole draft: the steps there are plain ones, as
    many as have to be. Where a step that had room drafted less, that is a step more.
    """
    num = len(runs[0].answers[0])
    drafting = (num - REPLAY_TOKENS - 2) // (right + 1) + 1
    num_plain = num - 1 - drafting * (right + 1)
    plain_s = plain.decode_s[0] / (len(plain.answers[0]) - 1)
    ours_s = fmean(done.decode_s[0] for done in runs) - num_plain * plain_s
    # The first step is the prompt's.
    steps = fmean(done.counts.steps for done in runs if done.counts is not None) - 1 - num_plain
    tokens = num - 1 - num_plain
    return Replay(tokens / steps, plain_s, ours_s / tokens)


def _decoding_s(done: Done) -> float:
    """Seconds while every prompt has been read and an answer is under way."""
    return max(done.last_s) - max(done.first_s)
