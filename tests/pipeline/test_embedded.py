"""Requests for embeddings with more inputs than one may have."""

import json
from typing import Any

import pytest

from headstart.pipeline.embedded import MAX_INPUTS
from headstart.pipeline.inbound import Inbound, understand
from headstart.stages.errors import BadRequest
from tests.support.gateway import serving

TOO_MANY = MAX_INPUTS + 1


def embedding(body: bytes) -> Inbound:
    return understand(body, {}, None, "/v1/embeddings")


@pytest.mark.parametrize("one", ["a", [1], [{"role": "user", "content": "a"}]])
@pytest.mark.parametrize("name", ["input", "messages"])
def test_too_many_inputs_are_refused(name: str, one: Any) -> None:
    embedding(json.dumps({name: [one] * MAX_INPUTS}).encode())

    with pytest.raises(BadRequest, match=f"holds {TOO_MANY} inputs") as refusal:
        embedding(json.dumps({name: [one] * TOO_MANY}).encode())
    assert refusal.value.param == name


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"input": ["a"%b]}',
        b'{"x": NaN, "input": ["a"%b]}',
        b'{"x": "\\ud800", "input":\n [ ["a"]%b]}',
        b'{"input": 1, "input": [ "\\ud800"%b]}',
        b'{"input": [NaN%b]}',
    ],
)
def test_what_only_pythons_parser_reads_is_counted_too(body: bytes) -> None:
    with pytest.raises(BadRequest, match=f"holds {TOO_MANY} inputs"):
        embedding(body % (b', ["b"]' * MAX_INPUTS))


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"input": [1] * 10_000}).encode(),
        json.dumps({"input": [-1] * 10_000}).encode(),
        json.dumps({"input": "a" * 10_000}).encode(),
        json.dumps({"other": ["a"] * 10_000}).encode(),
        json.dumps([["a"] * 10_000]).encode(),
        b'{"input": []}',
        b"{}",
        b"",
        b"\xff",
    ],
)
def test_what_is_one_input_or_none_is_the_engines_business(body: bytes) -> None:
    embedding(body)


@pytest.mark.parametrize("before", [b'{"input": ', b'{"x": NaN, "input": '])
def test_what_is_nested_too_deep_is_refused(before: bytes) -> None:
    with pytest.raises(BadRequest, match="nested too deep"):
        embedding(before + b"[" * 100_000 + b"]" * 100_000 + b"}")


@pytest.mark.anyio
async def test_gateway_refuses_them() -> None:
    async with serving() as gateway:
        body = {"model": "fake", "input": ["a"] * TOO_MANY}

        answer = await gateway.client.post("/v1/embeddings", json=body)

        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "input"
        assert not gateway.replica.requests
