"""10,000 random edit scripts end in exactly the text of the prompt in one piece.

What becomes of their ids and answers is in tests/pipeline/test_live_scripts.py.
"""

import json

import pytest

from headstart.cluster.engine import EngineInfo
from headstart.cluster.fake_request import read
from headstart.stages.prompt_document import EditError, PromptDocument
from headstart.stages.stable_prefix import boundary, common_length, continuations
from tests.support.live_scripts import script

NUM_SCRIPTS = 10_000
INFO = EngineInfo("fake", 1 << 16, 4)


def ids(text: str) -> list[int]:
    """What the fake engine renders."""
    body = {"messages": [{"role": "user", "content": text}]}
    return read("/v1/chat/completions", json.dumps(body).encode(), INFO).prompts[0]


@pytest.mark.parametrize("shard", range(4))
def test_scripts(shard: int) -> None:
    for seed in range(shard, NUM_SCRIPTS, 4):
        changes, expected = script(seed, num_changes=1 + seed % 12)
        document = PromptDocument(1 << 16)
        for change in changes:
            assert not isinstance(
                document.replace(change.start, change.end, change.text), EditError
            )
        assert document.text == expected
        assert document.version == len(changes)
        whole = ids(document.text)
        at = boundary(document.text)
        others = [ids(text) for text in continuations(document.text, at)]
        stable = whole[: common_length(whole, *others)]
        assert ids(expected + " and more")[: len(stable)] == stable
