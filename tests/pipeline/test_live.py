"""A prompt is typed, corrected and sent off: the answer is the plain request's, and sooner."""

from typing import Any

import pytest

from headstart.configs.model_settings import ModelSettings
from tests.pipeline.live_client import live
from tests.support.events import text as text_of
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

LONG = " ".join(f"word{number}" for number in range(400)) + " "
BLOCK = 32


def slow() -> ModelSettings:
    """A model whose prefill can be felt."""
    return speeds(prefill_tokens_per_s=2000.0, time_to_first_token_s=0.001)


async def plain(gateway: Gateway, text: str, **fields: Any) -> str:
    """The answer to the same prompt in one piece."""
    answer = await soon(gateway.client.post(CHAT, json=saying(text, stream=True, **fields)))
    return text_of(answer.content)


async def test_typed_corrected_and_committed() -> None:
    async with serving(slow()) as gateway, live(gateway) as client:
        created = await client.next()
        assert created["type"] == "session.created"
        await client.type(LONG)
        await client.until_warm(BLOCK + 4)
        await client.say("input_text.replace", start=0, end=5, text="first")
        assert (await client.until("input_text.replaced"))["version"] == 2
        await client.type("and that is al")
        end = len(LONG + "and that is al")
        await client.say("input_text.replace", start=end - 2, end=end, text="all.")
        await client.until("input_text.replaced")
        expected = "first" + LONG[5:] + "and that is all."
        await client.until_warm(BLOCK + 4)

        answer, done = await client.commit()

        assert done["response"]["status"] == "completed"
        assert answer == await plain(gateway, expected)
        timing = done["timing"]
        assert timing["cached_prompt_tokens"] >= timing["prompt_tokens"] - 2 * BLOCK
        assert timing["stages_s"]["prefill"] < 0.1 < timing["prompt_tokens"] / 2000
        assert done["computed_ahead"]["hidden_s"] > 0.15
        assert done["num_chars"] == 0
