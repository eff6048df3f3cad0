"""What is known of one journey: what client and server say of it, and what crossed the link."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headstart.benchmarks.journey_client import Features
from headstart.benchmarks.lossy_link import Crossed
from headstart.benchmarks.shipped_clients import Turn
from headstart.benchmarks.typists import Stroke
from headstart.stages.errors import SetupError

__all__ = ["RIVAL", "Measured", "Prompt", "arm_name", "measured", "timing_in"]

RIVAL = "vllm serve, openai client, SSE"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is typed, and how."""

    number: int
    text: str
    strokes: Sequence[Stroke]
    typed_s: float
    """In seconds of whoever types."""
    seed: int
    """Of the weather, which is the same for all arms."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One arm's journey with one prompt. Seconds are from the key that sends it off."""

    prompt: int
    arm: str
    typed_s: float
    shown_s: list[float]
    shown_chars: list[int]
    """So many could be read at each of these times."""
    by_datagrams: float
    """Share of them that came while datagrams alone carried the answer."""
    text: str
    stages_s: dict[str, float]
    """Of the request, as its server says."""
    prompt_tokens: int
    cached_tokens: int
    ahead_s: float
    """Engine time before the prompt was sent off, without that of slices that were stopped."""
    ahead_tokens: int
    wasted_tokens: int
    drafted: int
    accepted: int
    steps: int | None
    """Of the engine, for the answer; None where nothing was drafted."""
    down_packets: int
    down_lost: int
    down_bytes: int
    late_p99_s: float
    """Of the link's own deliveries: how busy the machine is."""
    failures: list[str]
    """Of the tries before, of which no answer came whole."""

    @property
    def first_s(self) -> float:
        return self.shown_s[0]

    @property
    def last_s(self) -> float:
        return self.shown_s[-1]

    @property
    def engine_s(self) -> float:
        """Engine time, before and after the prompt was sent off."""
        return self.ahead_s + self.stages_s["prefill"] + self.stages_s["decode"]

    def until(self, share: float) -> float:
        """When so much of the answer could be read."""
        least = share * self.shown_chars[-1]
        pairs = zip(self.shown_s, self.shown_chars, strict=True)
        return next(at for at, chars in pairs if chars >= least)


def arm_name(features: Features | None) -> str:
    """What tables call an arm."""
    return RIVAL if features is None else features.name


def timing_in(used: dict[str, float]) -> dict[str, Any]:
    """What vLLM's metrics say of the request that they have grown by, in our gateway's form.

    Raises:
        SetupError: They lack one.
    """

    def of(name: str) -> float:
        if not any(key.startswith(f"{name}{{") for key in used):
            raise SetupError(f"vllm serve has no metric {name}")
        return _sum(used, f"{name}{{")

    stages = ("queue", "prefill", "decode")
    return {
        "stages_s": {stage: of(f"vllm:request_{stage}_time_seconds_sum") for stage in stages},
        "prompt_tokens": int(of("vllm:prompt_tokens_total")),
        "cached_prompt_tokens": int(of("vllm:prompt_tokens_cached_total")),
        "speculation": None,
    }


def _sum(used: dict[str, float], name: str, label: str = "") -> float:
    return sum(value for key, value in used.items() if key.startswith(name) and label in key)


def measured(
    prompt: Prompt,
    arm: str,
    turn: Turn,
    timing: dict[str, Any],
    used: dict[str, float],
    crossed: Crossed,
    failures: list[str],
) -> Measured:
    """Put together what client, server and link say of a journey.

    Args:
        turn: Counted in characters.
        timing: Of the request, in our gateway's form.
        used: By how much the server's metrics have grown.
    """
    shown = turn.shown
    drafts = timing["speculation"] or {}
    return Measured(
        prompt=prompt.number,
        arm=arm,
        typed_s=prompt.typed_s,
        shown_s=[at - turn.asked_at for at in shown.at],
        shown_chars=shown.tokens,
        by_datagrams=turn.by_datagrams / max(1, len(turn.text)),
        text=turn.text,
        stages_s=timing["stages_s"],
        prompt_tokens=timing["prompt_tokens"],
        cached_tokens=timing["cached_prompt_tokens"] or 0,
        ahead_s=_sum(used, "headstart_live_stage_seconds_sum", 'stage="warm"'),
        ahead_tokens=int(_sum(used, "headstart_live_warm_tokens_total")),
        wasted_tokens=int(_sum(used, "headstart_live_wasted_tokens_total")),
        drafted=drafts.get("drafted") or 0,
        accepted=drafts.get("accepted") or 0,
        steps=drafts.get("steps"),
        down_packets=sum(each.down_packets for each in crossed.flows),
        down_lost=sum(each.down_lost for each in crossed.flows),
        down_bytes=sum(each.down_bytes for each in crossed.flows),
        late_p99_s=crossed.late_p99_s,
        failures=failures,
    )
