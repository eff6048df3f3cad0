"""The official Node client, where this machine has it."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

__all__ = ["ask_through_node"]

ROOT = Path(__file__).parents[2]
MODULES = ROOT / ".node" / "node_modules"
"""Where `npm install --prefix .node openai` puts it."""


def ask_through_node(url: str, model: str) -> Any:
    """Run `tests/integration/openai_client.mjs` and return what it printed.

    Skips the test where node or the package is missing.
    """
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if not (MODULES / "openai").is_dir():
        pytest.skip("the Node package openai is missing: npm install --prefix .node openai")
    script = ROOT / "tests" / "integration" / "openai_client.mjs"
    argv = [node, str(script), str(MODULES), f"{url}/v1", model]
    run = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)
