"""Whether a typed prompt's greedy answer is the plain one, in float32 (DESIGN §3.7)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.live_replay import Target
from headstart.benchmarks.live_typing import live_prompt, plain
from headstart.benchmarks.load import PATIENCE_S
from headstart.benchmarks.typists import TYPIST, compressed, script

__all__ = ["TIE", "Compared", "compare", "first_gap"]

TIE = 1e-3
"""Two tokens whose logits differ by no more may change places."""
_SCALE = 400.0
_REST_S = 0.3
"""Before the commit, so that there is something computed ahead to be wrong."""
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Compared:
    """One prompt's two answers."""

    is_same: bool
    gap: float | None
    """Between the two best logits of the plain run where the answers part; None if they do not."""
    prompt_tokens: int
    cached_tokens: int
    """Of them, computed ahead."""

    @property
    def is_exact(self) -> bool:
        """Whether they are the same, or part at a proven tie."""
        return self.is_same or (self.gap is not None and self.gap <= TIE)


async def compare(
    target: Target, checkpoint: Checkpoint, texts: Sequence[str], answer_tokens: int, seed: int
) -> list[Compared]:
    """Type every prompt with corrections, send it off, and ask for it in one piece."""
    hands = asyncio.Semaphore(_AT_ONCE)

    async def work(index: int, text: str) -> Compared:
        key = f"exactness/{index}"
        async with hands:
            found: Compared | None = checkpoint.get(key, Compared)
            if found is None:
                found = await _compare(target, index, text, answer_tokens, seed)
                checkpoint.put(key, found)
        return found

    async with asyncio.TaskGroup() as group:
        working = [group.create_task(work(*pair)) for pair in enumerate(texts)]
    found = [task.result() for task in working]
    print(f"exact: {sum(one.is_exact for one in found)} of {len(found)}", flush=True)
    return found


async def _compare(
    target: Target, index: int, text: str, answer_tokens: int, seed: int
) -> Compared:
    sampling = {"temperature": 0, "max_tokens": answer_tokens, "ignore_eos": True}
    salt = f"exact {index}"
    strokes = compressed(script(TYPIST, text, seed + index), _SCALE)
    async with live_prompt(
        target.url, target.model, sampling | {"cache_salt": f"{salt} live"}
    ) as prompt:
        await prompt.type(strokes)
        await asyncio.sleep(_REST_S)
        live = await prompt.commit()
    whole = await plain(target.url, target.model, text, answer_tokens, cache_salt=f"{salt} plain")
    is_same = live.text == whole.text
    gap = None if is_same else await _gap(target, text, answer_tokens, live.text)
    return Compared(is_same, gap, live.prompt_tokens, live.cached_tokens)


async def _gap(target: Target, text: str, answer_tokens: int, said: str) -> float | None:
    """Return how close the two best tokens are where the plain answer and another one part."""
    body = {
        "model": target.model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": answer_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": 2,
    }
    async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client:
        answer = await client.post(f"{target.url}/v1/chat/completions", json=body)
    answer.raise_for_status()
    return first_gap(answer.json()["choices"][0]["logprobs"]["content"], said)


def first_gap(tokens: Sequence[dict[str, Any]], said: str) -> float | None:
    """Return the gap at the first token that another text does not go on with.

    Args:
        tokens: OpenAI's `logprobs.content`.
        said: The other text.

    Returns: None if it goes on with all of them.
    """
    before = ""
    for token in tokens:
        before += token["token"]
        if not said.startswith(before):
            best, second = sorted((one["logprob"] for one in token["top_logprobs"]), reverse=True)
            return float(best - second)
    return None
