"""What gateway and engine log of every kind of request, in a process of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.asking import FAIL, SAID, WATCHING

ROOT = Path(__file__).parents[2]
CODE = """
import asyncio, json, pathlib, sys
sys.path.append(sys.argv[1])
from headstart.monitoring import logs
logs.set_up("gateway", level="debug", form="json")
from tests.support.asking import ask_everything
from tests.support.gateway import serving, speeds

async def main():
    async with serving(speeds(answer_tokens=24)) as gateway:
        answers = await ask_everything(gateway.url)
        pathlib.Path("answers.json").write_text(json.dumps(answers))

asyncio.run(main())
"""


def test_every_line_is_json_and_none_quotes_a_prompt_an_answer_or_a_thought(tmp_path: Path) -> None:
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
    answers = json.loads((tmp_path / "answers.json").read_text())
    assert len(answers) > 4
    for answer in answers:
        assert len(answer) > 20
        assert answer.strip() not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    (failed,) = (line for line in lines if line["event"] == "answer_failed")
    assert failed["exception"].endswith("\nRuntimeError")
    assert "Invalid HTTP request received." in {line["event"] for line in lines}
