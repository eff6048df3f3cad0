"""Every module has one name: bare folder names are never importable, wherever one starts from."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(file.parent.name for file in ROOT.glob("*/__init__.py"))

# Runs the console script as the shell does, with the script's folder first on the path.
CODE = """
import importlib.util, runpy, sys
script, *folders = sys.argv[1:]
sys.argv = [script, "--help"]
sys.path.insert(0, script.rpartition("/")[0])
try:
    runpy.run_path(script, run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
assert "headstart.pipeline.cli" in sys.modules
bare = [name for name in folders if name in sys.modules or importlib.util.find_spec(name)]
assert not bare, bare
"""


@pytest.mark.parametrize("place", ["elsewhere", "repository"])
def test_console_script_knows_no_bare_names(place: str, tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("headstart")
    run = subprocess.run(
        [sys.executable, "-P", "-c", CODE, str(script), *FOLDERS],
        cwd=ROOT if place == "repository" else tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_package_is_found_from_another_folder(tmp_path: Path) -> None:
    code = "import headstart.stages.frames as frames; print(frames.__file__)"
    output = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)
    assert Path(output.strip()) == ROOT / "stages/frames.py"


def test_tests_do_not_put_folders_on_the_path() -> None:
    assert not {*FOLDERS, "conftest"} & set(sys.modules)
