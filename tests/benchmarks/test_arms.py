"""Process control: a whole tree stands still, goes on, and is gone at the end."""

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from headstart.benchmarks.arms import Arm, rest_check, table
from headstart.benchmarks.checks import Verdict

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "print('up', flush=True)\\nwhile True: pass"])
for line in sys.stdin:
    print("heard", line, end="", flush=True)
child.kill()
child.wait()
"""


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[Arm]:
    """A process that answers lines, and a child of it that does nothing but burn its core."""
    arm = Arm("burner", [sys.executable, "-c", PARENT], tmp_path / "log", is_spoken_to=True)
    try:
        assert arm.process.stdout is not None
        assert arm.process.stdout.readline() == b"up\n"
        yield arm
    finally:
        arm.stop()


def states(arm: Arm) -> set[str]:
    return {process.status() for process in arm.tree}


def test_the_whole_tree_stands_still_and_uses_nothing(arm: Arm) -> None:
    tree = arm.tree
    assert len(tree) == 2
    arm.suspend()
    assert states(arm) == {psutil.STATUS_STOPPED}

    with arm.awake():
        assert psutil.STATUS_STOPPED not in states(arm)
        assert arm.process.stdin is not None
        assert arm.process.stdout is not None
        arm.process.stdin.write(b"you\n")
        arm.process.stdin.flush()
        assert arm.process.stdout.readline() == b"heard you\n"
    assert states(arm) == {psutil.STATUS_STOPPED}

    arm.resume()
    assert arm.rest.num_blocks == 2
    assert arm.rest.wall_s > 0
    assert rest_check([arm]).verdict is Verdict.HOLDS
    assert arm.work.wall_s > 0
    found = table([arm])
    [row] = (dict(zip(found.columns, row, strict=True)) for row in found.rows)
    assert (row["arm"], row["blocks"], row["suspended_cores"]) == ("burner", 2, arm.rest.share)


def test_an_arm_that_did_not_rest_fails_the_check(arm: Arm) -> None:
    arm.rest.num_blocks, arm.rest.wall_s, arm.rest.cpu_s = 1, 10.0, 0.2
    assert rest_check([arm]).verdict is Verdict.FAILS


def test_stopping_leaves_nothing_even_of_a_suspended_arm(arm: Arm) -> None:
    tree = arm.tree
    arm.suspend()
    arm.stop()
    assert not any(process.is_running() for process in tree)


def test_the_end_of_the_output_explains_a_failure(tmp_path: Path) -> None:
    arm = Arm("failing", [sys.executable, "-c", "raise SystemExit('no model')"], tmp_path / "log")
    arm.process.wait()
    arm.stop()
    assert arm.tail() == "no model"
