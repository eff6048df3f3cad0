"""What gateway and engine log of every kind of request, in a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.asking import FAIL, SAID, WATCHING

ROOT = Path(__file__).parents[2]
CODE = """
import asyncio, sys
sys.path.append(sys.argv[1])
from headstart.monitoring import logs
logs.set_up("gateway", level="debug", form="json")
from tests.support.asking import ask_everything
from tests.support.gateway import serving, speeds

async def main():
    async with serving(speeds(answer_tokens=24)) as gateway:
        await ask_everything(gateway.url)

asyncio.run(main())
"""


def test_every_line_is_json_and_none_quotes_a_prompt(tmp_path: Path) -> None:
    watched = {"PYTHONPATH": str(WATCHING), "WATCH_FOLDER": str(tmp_path), "WATCH_FAIL": FAIL}

    done = subprocess.run(
        [sys.executable, "-c", CODE, str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | watched,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr
    assert SAID not in done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    (failed,) = (line for line in lines if line["event"] == "answer_failed")
    assert failed["exception"].endswith("\nRuntimeError")
    assert "Invalid HTTP request received." in {line["event"] for line in lines}
