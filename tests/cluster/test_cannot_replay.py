"""Which sampling parameters keep an answer from being continued elsewhere."""

from types import SimpleNamespace
from typing import Any

import pytest

from headstart.cluster.adapter import cannot_replay

PLAIN: dict[str, Any] = {
    "n": 1,
    "seed": None,
    "temperature": 0.7,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "bad_words": [],
    "structured_outputs": None,
    "repetition_detection": None,
    "thinking_token_budget": None,
    "watermarking": False,
    "logprobs": None,
    "logprob_token_ids": None,
    "prompt_logprobs": None,
    "prompt_logprob_token_ids": None,
}


def asked(**changes: Any) -> str | None:
    return cannot_replay(SimpleNamespace(**PLAIN | changes))


@pytest.mark.parametrize("changes", [{}, {"n": None}, {"seed": 0, "temperature": 0}])
def test_plain_answers_can_be_continued(changes: dict[str, Any]) -> None:
    assert asked(**changes) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 2},
        {"seed": 0},
        {"presence_penalty": -0.5},
        {"frequency_penalty": 1},
        {"bad_words": ["a"]},
        {"structured_outputs": object()},
        {"logprobs": 0},
        {"prompt_logprobs": 1},
        {"thinking_token_budget": 0},
        {"watermarking": True},
    ],
)
def test_what_depends_on_the_answer_so_far_cannot(changes: dict[str, Any]) -> None:
    assert asked(**changes)
