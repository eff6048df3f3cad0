"""The examples of docs/examples do what they say."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from headstart.benchmarks.chromium import chromium
from tests.support.events import text
from tests.support.gateway import Gateway, serving, speeds
from tests.support.node_client import MODULES, node
from tests.support.waiting import PATIENCE_S, soon

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


def installed(folder: Path) -> None:
    """Lay the module and the example out as in a project of a user's."""
    shutil.copytree(ROOT / "client" / "web", folder / "node_modules" / "headstart-client")
    (folder / "package.json").write_text('{"type": "module"}')
    shutil.copy(EXAMPLES / "ai_sdk_transport.js", folder)
    shutil.copy(ROOT / "tests" / "client" / "ai_sdk.mjs", folder)


def text_of(parts: list[dict[str, Any]]) -> str:
    return "".join(part["delta"] for part in parts if part["type"] == "text-delta")


async def the_text(gateway: Gateway, stream: str) -> str:
    return text((await soon(gateway.client.get(f"/v1/streams/{stream}"))).content)


async def test_ai_sdk_transport(tmp_path: Path) -> None:
    installed(tmp_path)
    sdk = MODULES / "ai" / "dist" / "index.mjs"
    words = [str(sdk)] if sdk.exists() else []
    async with serving(speeds(tokens_per_s=50.0, answer_tokens=40)) as gateway:
        run = asyncio.to_thread(node, "ai_sdk.mjs", gateway.url, *words, cwd=tmp_path)
        found = json.loads(await soon(run))
        answers = [one.stream_id for one in gateway.replica.requests if one.method == "POST"]
        texts = [await the_text(gateway, answer) for answer in (answers[0], *answers[3:])]
        await gateway.replica.idle(PATIENCE_S)

    kinds = [part["type"] for part in found["whole"]]
    assert kinds[:3] == ["start", "start-step", "text-start"]
    assert kinds[-3:] == ["text-end", "finish-step", "finish"]
    assert text_of(found["whole"]) == texts[0]
    assert found["isForgotten"]
    assert found["isLeftForgotten"]
    assert found["stopped"][-1]["type"] == "abort"
    assert len(found["stopped"]) < len(found["whole"])
    assert found["id"] == answers[3]
    assert text_of(found["resumed"]) == texts[1]
    if words:
        assert [part["text"] for part in found["message"]["parts"] if "text" in part] == texts[2:]


@pytest.mark.chromium
async def test_event_source_reads_an_answer_whose_connection_breaks() -> None:
    source = (EXAMPLES / "event_source.js").read_text(encoding="utf-8")
    async with (
        serving(speeds(tokens_per_s=50.0, answer_tokens=60)) as gateway,
        chromium() as browser,
        browser.open(f"{gateway.url}/healthz") as page,
    ):
        await page.run(source.replace("export async function", "window.read = async function"))
        await page.run(
            """window.said = ""; window.id = null;
            void read(location.origin,
                { model: "fake", messages: [{ role: "user", content: "Name three colours." }] },
                (text) => (said += text)).then((found) => (id = found))"""
        )
        await page.until("said.length > 40")
        await page.call("Network.emulateNetworkConditions", **OFFLINE)
        await page.call("Network.emulateNetworkConditions", **OFFLINE | {"offline": False})
        await page.until("id !== null")
        assert await page.run("said") == await the_text(gateway, await page.run("id"))


OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
