"""Which routes there are, and that whatever else is asked for is refused in OpenAI's shape."""

import asyncio
import json
from functools import partial

import httpx
import pytest

from headstart.cluster.replica_pool import ReplicaPool
from headstart.configs.access import AccessSettings, KeySettings
from headstart.stages.access import hash_of
from tests.support.gateway import CHAT, Gateway, saying, serving, speeds
from tests.support.waiting import eventually, soon

pytestmark = pytest.mark.anyio

FORWARDED = {
    "embeddings": ("POST", "/v1/embeddings"),
    "tokenize": ("POST", "/tokenize"),
    "detokenize": ("POST", "/detokenize"),
    "a response": ("GET", "/v1/responses/resp_1"),
    "cancelling a response": ("POST", "/v1/responses/resp_1/cancel"),
}
"""An engine that lacks one says so itself, and the fake one lacks them all."""


@pytest.mark.parametrize("name", FORWARDED)
async def test_engine_is_asked(gateway: Gateway, name: str) -> None:
    method, path = FORWARDED[name]

    answer = await soon(gateway.client.request(method, path))

    assert answer.status_code == httpx.codes.NOT_FOUND
    # In the words of vLLM's own app, but in OpenAI's shape.
    said = {"message": "Not Found", "type": "Not Found", "param": None, "code": 404}
    assert answer.json() == {"error": said}
    (request,) = gateway.replica.requests
    assert (request.method, request.path) == (method, path)


REFUSED = (
    *("/v1/images/generations", "/v1/audio/speech", "/v1/files", "/v1/moderations"),
    *("/scale_elastic_ep", "/v1/load_lora_adapter", "/start_profile", "/reset_prefix_cache"),
    *("/v1/chat/completions/render", "/inference/v1/generate", "/server_info", "/collective_rpc"),
    *("/v1/responses/resp_1/input_items", "//v1/completions"),
)


@pytest.mark.parametrize("path", REFUSED)
async def test_no_other_route_reaches_an_engine(gateway: Gateway, path: str) -> None:
    for method in ("GET", "POST"):
        answer = await soon(gateway.client.request(method, path, json={}))

        assert answer.status_code == httpx.codes.NOT_FOUND
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] == httpx.codes.NOT_FOUND
    assert gateway.replica.requests == []


async def test_one_model(gateway: Gateway) -> None:
    (listed,) = (await soon(gateway.client.get("/v1/models"))).json()["data"]

    one = await soon(gateway.client.get("/v1/models/fake"))
    other = await soon(gateway.client.get("/v1/models/org/other"))

    assert one.json()["id"] == listed["id"] == "fake"
    assert set(one.json()) == set(listed)
    assert other.status_code == httpx.codes.NOT_FOUND
    assert other.json()["error"]["param"] == "model"
    assert "org/other" in other.json()["error"]["message"]


async def test_engine_is_asked_for_its_models_once(gateway: Gateway) -> None:
    asked = ["/v1/models", "/v1/models/fake", "/v1/models/none"] * 5

    together = await soon(asyncio.gather(*map(gateway.client.get, asked)))
    later = await soon(gateway.client.get("/v1/models"))

    assert later.content == together[0].content
    assert [request.path for request in gateway.replica.requests] == ["/v1/models"]
    assert len(gateway.streams) == 0


async def test_engine_gets_the_path_that_was_asked_for(gateway: Gateway) -> None:
    await soon(gateway.client.get("/v1/responses/one%20%C3%A9%3Ftwo"))

    assert [request.path for request in gateway.replica.requests] == ["/v1/responses/one é?two"]


async def test_several_models() -> None:
    models = (speeds("first"), speeds("second", seed=1))
    async with serving(*models) as gateway:
        listed = (await soon(gateway.client.get("/v1/models"))).json()["data"]
        assert [model["id"] for model in listed] == ["first", "second"]

        texts = {}
        for name in ("first", "second"):
            answer = await soon(gateway.client.post(CHAT, json=saying() | {"model": name}))
            assert answer.json()["model"] == name
            texts[name] = answer.json()["choices"][0]["message"]["content"]
        assert texts["first"] != texts["second"]
        asked = {
            replica.model.name: [r.path for r in replica.requests].count(CHAT)
            for replica in gateway.replicas
        }
        assert asked == {"first": 1, "second": 1}

        unknown = await soon(gateway.client.post(CHAT, json=saying() | {"model": "third"}))
        assert "Valid aliases: first, second." in unknown.json()["error"]["message"]


async def test_each_model_is_ready_by_itself() -> None:
    async with serving(speeds("first"), speeds("second")) as gateway:
        first, second = gateway.replicas
        assert (await soon(gateway.client.get("/readyz"))).text == "ready\n"

        await second.die()
        await eventually(lambda: not gateway.pool.up("second"))

        ready = await soon(gateway.client.get("/readyz"))
        assert ready.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert ready.json()["error"]["message"] == "no replica yet: second"
        still = await soon(gateway.client.post(CHAT, json=saying() | {"model": "first"}))
        assert still.status_code == httpx.codes.OK
        gone = await soon(gateway.client.post(CHAT, json=saying() | {"model": "second"}))
        assert gone.status_code == httpx.codes.SERVICE_UNAVAILABLE
        listed = (await soon(gateway.client.get("/v1/models"))).json()["data"]
        assert [model["id"] for model in listed] == ["first"]
        assert len(first.requests) >= 1


async def test_adapter_leads_to_its_model() -> None:
    pool = partial(ReplicaPool, adapters={"tuned": "second"})
    async with serving(speeds("first"), speeds("second"), pool=pool) as gateway:
        await soon(gateway.client.post(CHAT, json=saying() | {"model": "tuned"}))
        await gateway.unused()
        unknown = await soon(gateway.client.post(CHAT, json=saying() | {"model": "third"}))

        first, second = gateway.replicas
        assert first.requests == []
        (request,) = second.requests
        assert json.loads(request.body)["model"] == "tuned"  # which engine it is, vLLM finds out
        assert "Valid aliases: first, second, tuned." in unknown.json()["error"]["message"]
        models = {
            dict(labels).get("model")
            for (name, labels), value in gateway.exposition().values.items()
            if name == "headstart_requests_total" and value
        }
        assert "tuned" not in models
        assert "second" in models


async def test_health_is_what_clients_of_vllm_ask(gateway: Gateway) -> None:
    assert (await soon(gateway.client.get("/health"))).status_code == httpx.codes.OK


async def test_key_is_for_the_adapters_it_names() -> None:
    pool = partial(ReplicaPool, adapters={"tuned": "second"})
    scopes = {"of-tuned": ("tuned",), "of-second": ("second",)}
    access = AccessSettings(
        keys=tuple(KeySettings(id=id_, hash=hash_of(id_), models=to) for id_, to in scopes.items())
    )
    async with serving(speeds("first"), speeds("second"), pool=pool, access=access) as gateway:
        statuses = {}
        for key in scopes:
            headers = {"authorization": f"Bearer {key}"}
            for name in ("tuned", "second", "first", None):
                body = saying() | {"model": name}
                answer = await soon(gateway.client.post(CHAT, json=body, headers=headers))
                statuses[key, name] = answer.status_code

        # The fake engine has no adapters, and says so once it is asked.
        assert statuses == {
            ("of-tuned", "tuned"): 404,
            ("of-tuned", "second"): 403,
            ("of-tuned", "first"): 403,
            ("of-tuned", None): 403,
            ("of-second", "tuned"): 403,
            ("of-second", "second"): 200,
            ("of-second", "first"): 403,
            ("of-second", None): 200,
        }
        first, second = gateway.replicas
        assert first.requests == []
        assert len(second.requests) == 3
        assert (await soon(gateway.client.get("/health"))).status_code == httpx.codes.OK


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
async def test_no_encoding_hides_the_fields_of_the_gateway(encoding: str) -> None:
    access = AccessSettings(keys=(KeySettings(id="ann", hash=hash_of("ann")),))
    headers = {"authorization": "Bearer ann"}
    async with serving(access=access) as gateway:
        wrong = json.dumps(saying(headstart={"speed": 11})).encode(encoding)
        refused = await soon(gateway.client.post(CHAT, content=wrong, headers=headers))
        fine = json.dumps(saying()).encode(encoding)
        await soon(gateway.client.post(CHAT, content=fine, headers=headers))

        assert refused.status_code == httpx.codes.BAD_REQUEST
        (request,) = gateway.replica.requests
        assert json.loads(request.body)["cache_salt"]
