"""Random edit scripts, sent off: ids and answer are those of the same text sent in one piece.

Sessions as the gateway has them, edited and committed by calls, so that 10,000 take seconds and not
hours; the same over a WebSocket is in test_live.py, for a few.
"""

import json

import pytest

from headstart.cluster.engine import EngineRequest
from headstart.cluster.stream import Stream
from headstart.pipeline.access import ANYONE
from headstart.pipeline.live_events import Replace, SessionConfig
from headstart.pipeline.live_history import said, tokens_of
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds
from tests.support.live_scripts import script
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

NUM_SCRIPTS, NUM_QUICK = 10_000, 1_000
INSTANT = speeds(tokens_per_s=0, time_to_first_token_s=0)
PLAIN = SessionConfig(messages=[])
"""Each prompt begins a conversation of its own."""


def seeds(
    num_shards: int, num_scripts: int, marks: tuple[pytest.MarkDecorator, ...]
) -> list[object]:
    return [
        pytest.param(range(shard, num_scripts, num_shards), marks=marks)
        for shard in range(num_shards)
    ]


async def one_piece(gateway: Gateway, text: str, number: int) -> Stream:
    """The answer to the plain request, straight from the engine."""
    body = json.dumps(saying(text, stream=True)).encode()
    headers = (("content-type", "application/json"),)
    engine = gateway.replica.engine
    stream = engine.serve(EngineRequest(f"plain{number}", "POST", CHAT, headers, body))
    await soon(stream.finished())
    return stream


@pytest.mark.parametrize(
    "chosen",
    [*seeds(1, NUM_QUICK, ()), *seeds(4, NUM_SCRIPTS, (pytest.mark.heavy,))],
    ids=lambda chosen: f"{len(chosen)} from {chosen.start}",
)
async def test_what_was_edited_is_answered_as_if_it_had_not_been(chosen: range) -> None:
    async with serving(INSTANT) as gateway:
        session = gateway.live_prompts.create(ANYONE)
        session.start()
        engine = gateway.replica.engine
        num_answers = 0
        for seed in chosen:
            changes, expected = script(seed, num_changes=1 + seed % 12)
            session.configure(PLAIN)
            for change in changes:
                session.edit(Replace(start=change.start, end=change.end, text=change.text))
            assert session.text == expected
            if not expected:
                continue
            answer = await soon(session.commit())
            await soon(answer.settled)
            plain = await one_piece(gateway, expected, seed)
            live, asked = gateway.replica.requests[-2:]
            assert await engine.render(live) == await engine.render(asked)
            assert tokens_of(answer.stream) == tokens_of(plain)
            assert said(answer.stream) == said(plain)
            assert said(plain)["content"]
            assert not session.text
            num_answers += 1
            gateway.replica.requests.clear()
        assert num_answers > 0.9 * len(chosen)
