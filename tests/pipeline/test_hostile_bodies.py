"""Whatever a client sends: an error of its own, a gateway that goes on, a replica that lives."""

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headstart.configs.access import AccessSettings
from headstart.pipeline.inbound import understand
from headstart.stages.errors import BadRequest
from tests.pipeline.test_access import ALICE, auth, key
from tests.support.events import text
from tests.support.gateway import CHAT, COMPLETIONS, Gateway, saying, serving, speeds
from tests.support.raw_http import connected
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

DEEP = 100_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "a word": b"Hello!",
    "half an object": b'{"model": "fake", "messages": [',
    "null": b"null",
    "a list": b"[]",
    "zero bytes": b"\x00" * 100,
    "not UTF-8": b'{"model": "fake", "messages": [{"role": "user", "content": "\xff"}]}',
    "not UTF-8 in a field to drop": b'{"model": "fake", "priority": "\xff"}',
    "half a surrogate pair for a model": b'{"model": "\\ud800", "prompt": "a"}',
    "unknown model": b'{"model": "gpt-9", "prompt": "a"}',
    "model of the wrong type": b'{"model": ["fake"], "prompt": "a"}',
    "long model": json.dumps({"model": "x" * 100_000, "prompt": "a"}).encode(),
    "messages of the wrong type": b'{"model": "fake", "messages": "Hi", "prompt": {}}',
    "stream of the wrong type": b'{"model": "fake", "prompt": "a", "stream": "maybe"}',
    "no tokens": b'{"model": "fake", "prompt": "a", "messages": [], "max_tokens": 0}',
    "fewer than no tokens": b'{"model": "fake", "prompt": "a", "messages": [], "max_tokens": -7}',
    "more tokens than there are": b'{"prompt": "a", "messages": [], "max_tokens": 99999999999}',
    "not a number of tokens": b'{"prompt": "a", "messages": [], "max_tokens": NaN}',
    "a number of 5000 digits": b'{"prompt": "a", "messages": [], "max_tokens": '
    + b"9" * 5000
    + b"}",
    "nested lists": b'{"messages": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "nested objects": b'{"prompt": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    "nested in a field to drop": b'{"priority": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "10 MB": json.dumps({"model": "fake", "prompt": "x" * 10_000_000}).encode(),
}


@pytest.fixture(scope="module", params=["no keys", "keys"])
async def target(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    """A gateway for every body in turn: none may leave it the worse."""
    access = AccessSettings(keys=(key(ALICE),) if request.param == "keys" else ())
    async with serving(access=access) as gateway:
        yield gateway


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("case", BODIES)
async def test_impossible_body_is_the_client_s_error(target: Gateway, case: str, path: str) -> None:
    headers = auth(ALICE) | {"content-type": "application/json"}

    answer = await soon(target.client.post(path, content=BODIES[case], headers=headers))

    assert answer.is_client_error, answer.text
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == answer.status_code
    assert text(
        (await soon(target.client.post(CHAT, json=saying(stream=True), headers=headers))).content
    )


@pytest.mark.parametrize(
    "opening",
    [
        b'{"priority": 1, "x": ',
        b'{"priority": NaN, "x": ',
        b'{"priority": NaN, "response_format": ',
        b'{"priority": NaN, "stop": ',
    ],
)
def test_body_nested_about_as_deep_as_can_be_read_is_taken_or_refused(opening: bytes) -> None:
    """Each step of reading it has a little more or less room left than the others."""
    limit = sys.getrecursionlimit()
    outcomes = set()
    for depth in range(limit // 2, 2 * limit):
        body = opening + b"[" * depth + b"]" * depth + b"}"
        try:
            understand(body, {}, None)
        except BadRequest as error:
            outcomes.add(error.message)
        else:
            outcomes.add("taken")

    assert outcomes == {"taken", "the body is nested too deep"}


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", "", "é", "x" * 9999])
async def test_odd_content_type_breaks_nothing(gateway: Gateway, content_type: str) -> None:
    answer = await soon(
        gateway.client.post(
            CHAT,
            content=json.dumps(saying()).encode(),
            headers={b"content-type": content_type.encode("latin-1")},
        )
    )

    assert not answer.is_server_error
    assert await gateway.stream()


@pytest.mark.parametrize(
    "cursor", ["-1", "x", "1" * 5000, "٣", "1e3", "%00", "9999999999999999999"]
)
async def test_odd_cursor_is_the_client_s_error(gateway: Gateway, cursor: str) -> None:
    await gateway.stream()
    stream_id = gateway.replica.requests[0].stream_id

    answer = await soon(gateway.client.get(f"/v1/streams/{stream_id}?after={cursor}"))

    assert answer.is_client_error


@pytest.mark.parametrize(
    "target_",
    ["/v1/streams/%ff%00", "/v1/streams/%F0%9F%92%A9/timing", "//", "/v1/../x", "/%2e%2e"],
)
async def test_odd_path_is_not_found(gateway: Gateway, target_: str) -> None:
    async with connected(gateway.address) as connection:
        connection.head("GET", target_)

        assert (await connection.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("wish", [True, 1, "yes"])
async def test_beam_search_is_refused(gateway: Gateway, path: str, wish: Any) -> None:
    body = saying(prompt="a", use_beam_search=wish, n=2)

    answer = await soon(gateway.client.post(path, json=body))

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "use_beam_search")
    assert gateway.replica.requests == []


async def test_no_beam_search_is_no_fault(gateway: Gateway) -> None:
    await gateway.stream(json=saying(stream=True, use_beam_search=False))


async def test_priority_is_not_the_client_s_to_set(gateway: Gateway) -> None:
    body = saying("A priority?", max_tokens=2, x=[1.50, None])

    for field in (
        '"priority": -9, ',
        '"prior\\u0069ty": -9, ',
        '"priority": 1, "priority": null, ',
    ):
        gateway.replica.requests.clear()
        sent = "{" + field + json.dumps(body)[1:]
        assert (await soon(gateway.client.post(CHAT, content=sent))).is_success
        assert json.loads(gateway.replica.requests[0].body) == body


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize("first_token_s", [0.0, 60.0])
async def test_replica_outlives_clients_that_leave(is_streamed: bool, first_token_s: float) -> None:
    async with serving(speeds(time_to_first_token_s=first_token_s)) as gateway:
        for _ in range(5):
            async with connected(gateway.address) as connection:
                connection.post(CHAT, saying(stream=is_streamed, max_tokens=100_000))
                if is_streamed and not first_token_s:
                    await connection.until(b'"content":" ')
        async with connected(gateway.address) as connection:
            connection.head("POST", CHAT, content_length="1000")
            connection.write(b'{"model": "fa')
        await gateway.replica.idle(5)
        await gateway.unused()
        models = await soon(gateway.client.get("/v1/models"))
        assert [model["id"] for model in models.json()["data"]] == ["fake"]


@pytest.mark.parametrize("fields", [b'"x": NaN', b'"x": "\\ud800"', b'"x": ['])
def test_long_body_that_only_a_slow_parser_reads_is_refused(fields: bytes) -> None:
    body = b'{"model": "fake", %b, "y": "%b"}'
    understand(body % (fields, b"y"), {}, None)

    with pytest.raises(BadRequest, match="JSON to the letter"):
        understand(body % (fields, b"y" * (1 << 20)), {}, None)


@pytest.mark.parametrize("name", ["structured_outputs", "response_format", "text"])
@pytest.mark.parametrize("end", ["", "\ud800"])
def test_form_that_takes_minutes_to_compile_is_refused(name: str, end: str) -> None:
    form = {"choice": [f"choice {number}{end}" for number in range(10_000)]}

    def asking(form: object) -> bytes:
        return json.dumps({"prompt": "a" * 100_000, name: form}).encode()

    with pytest.raises(BadRequest, match="at most 65536") as refused:
        understand(asking(form), {}, None)
    assert refused.value.param == name
    understand(asking({"choice": [f"choice{end}"]}), {}, None)


@pytest.mark.parametrize("name", ["stop", "bad_words"])
def test_half_a_surrogate_pair_is_nothing_to_stop_at(name: str) -> None:
    """vLLM's app answers 500."""
    with pytest.raises(BadRequest, match="Unicode") as refused:
        understand(json.dumps({"prompt": "a", name: ["\ud800"]}).encode(), {}, None)
    assert refused.value.param == name


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"speculation": "AUTO"}, "one of auto, off, copy, jacobi, drafter"),
        ({"speculation": 5}, "one of auto, off, copy, jacobi, drafter"),
        ({"language": "German"}, "a tag such as `de` or `pt-BR`"),
    ],
)
def test_an_option_that_does_not_fit_is_told_what_would(options: object, wanted: str) -> None:
    for rest in ("", ', "x": NaN'):
        body = f'{{"headstart": {json.dumps(options)}{rest}}}'
        with pytest.raises(BadRequest, match=rf"at `\$\.headstart\.\w+`: give {wanted}$"):
            understand(body.encode(), {}, None)


@pytest.mark.parametrize("form", [5, "regex", [], [{}], True])
def test_form_that_is_no_object_is_refused(form: Any) -> None:
    """vLLM's app answers 500."""
    for rest in ({}, {"x": float("nan")}):
        with pytest.raises(BadRequest, match="must be an object") as refused:
            understand(json.dumps({"structured_outputs": form, **rest}).encode(), {}, None)
        assert refused.value.param == "structured_outputs"


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("structured_outputs", {"regex": "[^x]*" * 410}),
        ("structured_outputs", {"json": {"type": "string", "pattern": "a" * 2049}}),
        ("response_format", {"json_schema": {"schema": {"x": [{"pattern": "é" * 2049}]}}}),
        ("text", {"format": {"schema": {"pattern": "a" * 2049}}}),
    ],
)
def test_pattern_that_is_too_much_to_compile_is_refused(name: str, form: Any) -> None:
    for rest in ("", ', "x": NaN'):
        body = f'{{"{name}": {json.dumps(form)}{rest}}}'.replace("pattern", "p\\u0061ttern")
        with pytest.raises(BadRequest, match="at most 2048 are compiled") as refused:
            understand(body.encode(), {}, None)
        assert refused.value.param == name


@pytest.mark.parametrize(
    "form",
    [
        None,
        {},
        {"regex": "(a{100}){100}" + "a" * 2035},
        {"regex": ["a" * 9999]},
        {"json": {"pattern": {"description": "a" * 9999}}},
    ],
)
def test_form_that_can_be_compiled_is_left_alone(form: Any) -> None:
    body = json.dumps({"structured_outputs": form}).encode()
    assert understand(body, {}, None).body is body


async def test_long_name_of_a_model_is_not_said_back_in_full(gateway: Gateway) -> None:
    answer = await soon(gateway.client.post(CHAT, json=saying() | {"model": "x" * 10_000}))

    assert answer.status_code == 404
    assert len(answer.content) < 500
