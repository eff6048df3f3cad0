"""vLLM still answers as tests/golden recorded it.

Where one of these fails after an upgrade, record the golden answers again and mend the templates of
`headstart.stages.sse`: until then nothing is wrong, only slower, for chunks travel verbatim.
"""

import json

import pytest

from headstart.cluster.vllm_engine import VllmEngine
from headstart.stages.sse import split_events
from tests.contract.asking import CHAT, Subject
from tests.contract.conftest import ENGINE
from tests.golden.shapes import chunk_shapes, shape
from tests.golden.vllm_answers import BODIES, FOLDER, REFUSED, STREAMS, answer
from tests.stages.chunks import through_the_log

pytestmark = [pytest.mark.anyio, *ENGINE]


@pytest.fixture
def engine(vllm: Subject) -> VllmEngine:
    assert isinstance(vllm.engine, VllmEngine)
    return vllm.engine


@pytest.mark.parametrize("name", STREAMS)
async def test_streams(engine: VllmEngine, name: str) -> None:
    status, events = await answer(engine, STREAMS[name])

    recorded = (FOLDER / "sse" / f"{name}.sse").read_bytes()
    assert status == 200
    assert chunk_shapes(events).keys() == chunk_shapes(recorded).keys()


async def test_plain_deltas_of_a_response_need_little(engine: VllmEngine) -> None:
    _, events = await answer(engine, STREAMS["responses"])
    kept, _ = split_events(events, has_names=True)

    frames, projected = through_the_log("responses", kept)

    assert b"".join(projected) == events
    deltas = [frame.payload or b"" for frame in frames if frame.text]
    assert deltas
    assert all(len(payload) < 50 for payload in deltas)


async def test_plain_deltas_need_no_payload(engine: VllmEngine) -> None:
    for name in ("chat", "completions"):
        _, events = await answer(engine, STREAMS[name])
        payloads, _ = split_events(events)

        api = "chat" if STREAMS[name].path == CHAT else "completion"
        frames, projected = through_the_log(api, payloads)

        assert b"".join(projected) == events
        num_plain = sum(frame.payload is None for frame in frames)
        num_deltas = sum(bool(frame.text) for frame in frames)
        num_last = len({frame.choice for frame in frames})
        assert num_plain == num_deltas - num_last


@pytest.mark.parametrize("name", BODIES)
async def test_bodies(engine: VllmEngine, name: str) -> None:
    _, body = await answer(engine, BODIES[name])

    golden = json.loads((FOLDER / "bodies" / f"{name}.json").read_text())
    assert shape(json.loads(body)) == shape(golden)


async def test_refusals(engine: VllmEngine) -> None:
    answers = {name: await answer(engine, ask) for name, ask in REFUSED.items()}

    refused = {name: json.loads(body)["error"] for name, (_, body) in answers.items()}
    assert refused == json.loads((FOLDER / "errors.json").read_text())
    assert {name: status for name, (status, _) in answers.items()} == {
        name: error["code"] for name, error in refused.items()
    }
