"""The browser module without a browser: Node runs its pure part against what Python does."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from tests.golden.browser_vectors import FILE, vectors
from tests.support.node_client import MODULES, node

ROOT = Path(__file__).parents[2]
WEB = ROOT / "client" / "web"
WHEN_ASKED_FOR = {"live.js"}
"""Loaded by the first `live()`."""
MAX_PACKED_BYTES = 20_000
MAX_LIVE_BYTES = 4_900
MAX_SENT_BYTES = 25_000
"""As files of their own."""


def test_golden_file_holds_what_the_python_codec_does() -> None:
    """Made again by `python -m tests.golden.browser_vectors > tests/golden/browser.json`."""
    assert json.loads(FILE.read_text(encoding="utf-8")) == json.loads(json.dumps(vectors()))


def test_golden_file_covers_how_answers_end() -> None:
    golden = FILE.read_text(encoding="utf-8")
    for seen in ('"type":"complete"', '"type":"quiet"', '"refused":true', '"type":"give up"'):
        assert seen in golden


def test_node_finds_what_the_golden_file_says() -> None:
    assert "\n# fail 0\n" in node("--test", "tests/web/golden.test.js")


def test_module_is_small() -> None:
    module = {file.name for file in WEB.glob("*.js")}
    assert packed(module - WHEN_ASKED_FOR) < MAX_PACKED_BYTES
    assert sum(packed({name}) for name in module - WHEN_ASKED_FOR) < MAX_SENT_BYTES
    assert packed(WHEN_ASKED_FOR) < MAX_LIVE_BYTES


def packed(names: set[str]) -> int:
    """Size of files packed together, bytes."""
    return len(
        gzip.compress(b"".join((WEB / name).read_bytes() for name in sorted(names)), mtime=0)
    )


def test_module_installs_as_a_package(tmp_path: Path) -> None:
    """As npm puts it under `node_modules`; nothing is built and nothing else is needed."""
    package = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    assert "dependencies" not in package
    modules = tmp_path / "node_modules"
    modules.mkdir()
    shutil.copytree(WEB, modules / package["name"])
    (tmp_path / "page.mjs").write_text(
        f"import * as module from '{package['name']}';\n"
        "console.log(JSON.stringify(Object.keys(module)));",
        encoding="utf-8",
    )
    names = json.loads(node("page.mjs", cwd=tmp_path))
    assert {"Headstart", "Answer", "EngineLost"} <= set(names)
    types = (WEB / "headstart.d.ts").read_text(encoding="utf-8")
    for name in names:
        assert f"export class {name} " in types or f"export class {name}<" in types


def test_declarations_are_typescripts(tmp_path: Path) -> None:
    compiler = MODULES / "typescript" / "bin" / "tsc"
    if not compiler.exists():
        pytest.skip("TypeScript is missing: npm install --prefix .node typescript")
    shutil.copytree(WEB, tmp_path / "node_modules" / "headstart-client")
    shutil.copy(ROOT / "tests" / "web" / "types.ts", tmp_path)
    flags = ("--noEmit", "--strict", "--target", "es2022", "--module", "nodenext")
    library = ("--lib", "es2022,dom,dom.iterable,dom.asynciterable", "--types", "")
    node(str(compiler), *flags, *library, "types.ts", cwd=tmp_path)
