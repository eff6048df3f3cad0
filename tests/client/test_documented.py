"""The pages on the client and on live prompts say what is so."""

import asyncio
import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gateway import serving, speeds
from tests.support.waiting import soon

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = [
    example
    for page in ("client.md", "live.md")
    for example in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
]
HEAVY = ("ray", "vllm", "torch", "transformers", "starlette", "uvicorn", "zmq")


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
async def test_the_pages_examples_run(number: int) -> None:
    async with serving(speeds("smollm2-135m-instruct")) as gateway:
        code = EXAMPLES[number].replace("http://127.0.0.1:8000", gateway.url)
        shown = io.StringIO()

        def run() -> None:
            with contextlib.redirect_stdout(shown):
                exec(compile(code, "docs", "exec"), {})

        await soon(asyncio.to_thread(run))

    assert gateway.replica.requests
    assert len(shown.getvalue().split()) > 4


def test_the_client_loads_no_engine_and_no_server() -> None:
    code = f"import sys, headstart.client; print([n for n in {HEAVY} if n in sys.modules])"

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
