"""Whether a typed prompt's greedy answer is the plain one, token for token, in float32."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from headstart.benchmarks.checkpoint import Checkpoint
from headstart.benchmarks.live_prompts import num_sentences
from headstart.benchmarks.live_replay import Target
from headstart.benchmarks.live_typing import live_prompt, plain, token_ids
from headstart.benchmarks.load import PATIENCE_S, AnswerRefused
from headstart.benchmarks.ties import TIE, tie_gap
from headstart.benchmarks.typists import TYPIST, compressed, script

__all__ = ["Compared", "compare", "gap_in"]

_SCALE = 400.0
_REST_S = 6.0
"""Before the commit, so that there is something computed ahead to be wrong."""
_AT_ONCE = 8
"""A step of the engine takes little longer for as many. They rest together: nothing is computed
ahead while somebody waits for an answer."""
_NAMED = "token_id:"
"""Before an id, where vLLM is asked to name tokens so."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One prompt's two answers."""

    is_same: bool
    gap: float | None
    """Between the two best logits of the plain run where the answers part, if these are the tokens
    they part with; None if not, or if they do not part."""
    prompt_tokens: int
    cached_tokens: int
    """Of them, computed ahead."""
    answer_tokens: int
    """Of the shorter answer."""
    num_sentences: int
    """Of the prompt."""

    @property
    def is_exact(self) -> bool:
        """Whether they are the same, or part at a proven tie."""
        return self.is_same or (self.gap is not None and self.gap <= TIE)


async def compare(
    target: Target, checkpoint: Checkpoint, texts: Sequence[str], answer_tokens: int, seed: int
) -> list[Compared]:
    """Type every prompt with corrections, send it off, and ask for it in one piece."""
    found = {
        index: known
        for index in range(len(texts))
        if (known := checkpoint.get(_key(index), Compared)) is not None
    }
    missing = [index for index in range(len(texts)) if index not in found]
    for start in range(0, len(missing), _AT_ONCE):
        indices = missing[start : start + _AT_ONCE]
        typed = asyncio.Barrier(len(indices))

        async def work(index: int, typed: asyncio.Barrier = typed) -> None:
            found[index] = await _compare(target, index, texts[index], answer_tokens, seed, typed)
            checkpoint.put(_key(index), found[index])

        async with asyncio.TaskGroup() as group:
            for index in indices:
                group.create_task(work(index))
    print(f"exact: {sum(one.is_exact for one in found.values())} of {len(found)}", flush=True)
    return [found[index] for index in range(len(texts))]


def _key(index: int) -> str:
    return f"exactness/{index}"


async def _compare(
    target: Target, index: int, text: str, answer_tokens: int, seed: int, typed: asyncio.Barrier
) -> Compared:
    sampling = {
        "temperature": 0,
        "max_tokens": answer_tokens,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    salt = f"exact {index}"
    strokes = compressed(script(TYPIST, text, seed + index), _SCALE)
    async with live_prompt(
        target.url, target.model, sampling | {"cache_salt": f"{salt} live"}
    ) as prompt:
        await prompt.type(strokes)
        await typed.wait()
        await asyncio.sleep(_REST_S)
        live = await prompt.commit()
    wanted = {"cache_salt": f"{salt} plain", "return_token_ids": True}
    whole = await plain(target.url, target.model, text, answer_tokens, **wanted)
    live_ids = await _ids(target, live.stream)
    num = min(len(live_ids), len(whole.token_ids))
    if num < answer_tokens:
        raise AnswerRefused(f"asked for {answer_tokens} token ids, got {num}")
    is_same = live_ids == whole.token_ids
    gap = None
    if not is_same:
        gap = gap_in(await _logprobs(target, text, answer_tokens), whole.token_ids, live_ids)
    told = live.prompt_tokens, live.cached_tokens, num, num_sentences(text)
    return Compared(is_same, gap, *told)


async def _ids(target: Target, stream: str) -> tuple[int, ...]:
    """Return the token ids of an answer that is over."""
    async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client:
        answer = await client.get(f"{target.url}/v1/streams/{stream}")
    answer.raise_for_status()
    payloads = [
        line.removeprefix("data: ")
        for line in answer.text.splitlines()
        if line.startswith("data: {")
    ]
    return tuple(one for payload in payloads for one in token_ids(msgspec.json.decode(payload)))


async def _logprobs(target: Target, text: str, answer_tokens: int) -> list[dict[str, Any]]:
    """Return the plain answer's tokens, each with the two best there."""
    body = {
        "model": target.model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": answer_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": 2,
        "return_tokens_as_token_ids": True,
    }
    async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as client:
        answer = await client.post(f"{target.url}/v1/chat/completions", json=body)
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()["choices"][0]["logprobs"]["content"]
    return found


def gap_in(
    tokens: Sequence[dict[str, Any]], plain: Sequence[int], live: Sequence[int]
) -> float | None:
    """`tie_gap` with OpenAI's `logprobs.content` of the plain answer, asked for once more."""
    best = [{_id(each["token"]): each["logprob"] for each in one["top_logprobs"]} for one in tokens]
    return tie_gap([_id(one["token"]) for one in tokens], best, plain, live)


def _id(name: str) -> int:
    return int(name.removeprefix(_NAMED))
