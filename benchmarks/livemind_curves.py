"""Models of which only lengths and speeds exist, and what it takes them to answer by themselves."""

from dataclasses import dataclass

from headstart.benchmarks.livemind_tokens import Tokens
from headstart.benchmarks.mmlu_pro import Question
from headstart.stages.stable_prefix import boundary, common_length

__all__ = [
    "LARGE",
    "LLAMA_8B",
    "LLAMA_70B",
    "SMALL",
    "Answerer",
    "CostCurve",
    "Timed",
    "plain",
    "stable_head",
    "warm_only",
]


@dataclass(frozen=True, slots=True)
class CostCurve:
    """How fast a model is, one request at a time."""

    name: str
    prefill_tokens_per_s: float
    token_s: float
    block_size: int = 16

    def prefill_s(self, num_tokens: int) -> float:
        return num_tokens / self.prefill_tokens_per_s

    def whole(self, num_tokens: int) -> int:
        return num_tokens // self.block_size * self.block_size


LLAMA_70B = CostCurve("Llama-3-70B AWQ on one A100-80G", 1000.0, 16.33 / 303.7)
"""Seconds a token: LiveMind v1's plain arm, 16.33 s for 303.7 tokens on average, published. Its
prefill was not: about half of what the card could do at its peak is assumed."""

LLAMA_8B = CostCurve(
    "Llama-3-8B AWQ on one A100-80G", 1000.0 * (16.33 / 303.7) / (2.703 / 265.1), 2.703 / 265.1
)
"""As the 70B's: 2.703 s for 265.1 tokens. Its prefill is assumed to be faster by as much."""


@dataclass(frozen=True, slots=True)
class Answerer:
    """Who answers, and how much it writes."""

    curve: CostCurve
    length: float
    """Of its reasoning without any thoughts, for each token of the recorded one."""
    left: float
    """Share of that which it still writes where thoughts are in its prompt."""


LARGE = Answerer(LLAMA_70B, 1.0, 124.3 / 303.7)
"""Output tokens over all 12,032 questions, LiveMind v1's; not ours."""
SMALL = Answerer(LLAMA_8B, 265.1 / 303.7, 72.8 / 265.1)
"""The collaborative arm's, after a 70B's thoughts: from the same tables."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What one session took, from its last character on."""

    wait_s: float
    """For the thought in the making."""
    first_token_s: float
    """With that wait."""
    whole_s: float
    engine_s: float
    """Of everything: thoughts, what was prefilled ahead, the answer."""
    num_thoughts: int
    """In the answer's prompt."""
    thought_tokens: int
    """Of all thoughts, stopped ones too."""
    left_share: float
    """Of the reasoning, after the text was sent off."""
    is_wrong: bool = False
    """Whether a thought about text that was edited away was in the answer's prompt."""


def plain(question: Question, tokens: Tokens, answerer: Answerer) -> Timed:
    """Everything is computed when the text is sent off."""
    prompt = len(tokens.rendered([{"role": "user", "content": question.whole}]))
    return _answered(answerer, prompt, 0, tokens.of(question.reasoning))


def warm_only(question: Question, tokens: Tokens, answerer: Answerer) -> Timed:
    """The text is prefilled while it is typed, and nothing is thought."""
    whole = tokens.rendered([{"role": "user", "content": question.whole}])
    typed = tokens.rendered([{"role": "user", "content": stable_head(question.text)}])
    cached = answerer.curve.whole(common_length(whole, typed))
    return _answered(answerer, len(whole), cached, tokens.of(question.reasoning))


def stable_head(text: str) -> str:
    """Return the head of a text that has been prefilled when its last character is typed."""
    return text[: boundary(text).cut]


def _answered(answerer: Answerer, prompt: int, cached: int, reasoning: int) -> Timed:
    curve, output = answerer.curve, max(1, round(reasoning * answerer.length))
    first = curve.prefill_s(prompt - cached) + curve.token_s
    whole = first + (output - 1) * curve.token_s
    engine = whole + curve.prefill_s(cached)
    return Timed(0.0, first, whole, engine, 0, 0, 1.0)
