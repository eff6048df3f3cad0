"""What an answer's usage says of drafts."""

import json
from typing import Any

import pytest

from headstart.cluster.answer_usage import with_speculation
from headstart.stages.speculation_counts import Speculated

SPECULATED = Speculated(drafted=9, accepted=5, steps=3)
CHUNK = b'{"id":"a","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2.5e0}}'


def test_counts_are_said_by_openais_names_and_ours() -> None:
    usage = json.loads(with_speculation("chat", CHUNK, SPECULATED))["usage"]

    assert usage["completion_tokens_details"] == {
        "accepted_prediction_tokens": 5,
        "rejected_prediction_tokens": 4,
    }
    assert usage["headstart"] == {"drafted": 9, "accepted": 5, "steps": 3}
    assert usage["prompt_tokens"] == 3


def test_details_that_are_there_stay() -> None:
    for details, kept in (({"reasoning_tokens": 7}, 7), (None, None)):
        body = {"usage": {"completion_tokens_details": details}}
        payload = json.dumps(body, separators=(",", ":")).encode()
        found = json.loads(with_speculation("completion", payload, SPECULATED))["usage"]
        assert found["completion_tokens_details"].get("reasoning_tokens") == kept


def test_the_rest_of_a_body_is_left_to_the_byte() -> None:
    payload = b'{"logprob":-1.50e-3,"usage":{"prompt_tokens":3},"x":[1.0 , 2]}'

    found = with_speculation("chat", payload, SPECULATED)

    assert found.startswith(b'{"logprob":-1.50e-3,')
    assert found.endswith(b'"x":[1.0 , 2]}')


@pytest.mark.parametrize(
    "payload",
    [
        b"[DONE]",
        b'{"choices":[{"delta":{"content":"\\"usage\\":{}"}}]}',
        b'{"choices":[{"usage":{"prompt_tokens":3}}]}',
        b'{"usage":null}',
        b'"usage":{broken',
    ],
)
def test_what_has_no_usage_is_left_alone(payload: bytes) -> None:
    assert with_speculation("chat", payload, SPECULATED) == payload


@pytest.mark.parametrize(
    ("api", "speculated"), [("chat", None), ("responses", SPECULATED), ("", SPECULATED)]
)
def test_usage_of_others_is_left_alone(api: str, speculated: Any) -> None:
    assert with_speculation(api, CHUNK, speculated) == CHUNK
