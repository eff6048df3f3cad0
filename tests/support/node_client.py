"""Node, where this machine has it: the official client, and our browser module without a page."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ask_through_node", "node", "read_through_node"]

ROOT = Path(__file__).parents[2]
MODULES = ROOT / ".node" / "node_modules"
"""Where `npm install --prefix .node openai` puts it."""


def node(*words: str, cwd: Path = ROOT) -> str:
    """Run Node and return what it printed; skips the test where it is missing."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    run = subprocess.run(
        [program, *words], check=False, capture_output=True, text=True, timeout=240, cwd=cwd
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def read_through_node(url: str, network: str = "good", **options: Any) -> Any:
    """Run `tests/client/read_answer.mjs` and return what it printed."""
    return json.loads(node("tests/client/read_answer.mjs", url, json.dumps(options), network))


def ask_through_node(url: str, model: str) -> Any:
    """Run `tests/integration/openai_client.mjs` and return what it printed.

    Skips the test where node or the package is missing.
    """
    if not (MODULES / "openai").is_dir():
        pytest.skip("the Node package openai is missing: npm install --prefix .node openai")
    script = ROOT / "tests" / "integration" / "openai_client.mjs"
    return json.loads(node(str(script), str(MODULES), f"{url}/v1", model))
