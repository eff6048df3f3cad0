"""Processes that are held are found again when nobody is above them any more."""

import subprocess
import sys

ORPHANS = "sleep 600 & echo started; wait"
"""A shell with a child."""
ALONE = f"""
import select, signal, subprocess
from headstart.cluster import descendants

parent = subprocess.Popen(["sh", "-c", {ORPHANS!r}], stdout=subprocess.PIPE)
parent.stdout.readline()
held = descendants.hold()
assert len(held) == 2, held
parent.send_signal(signal.SIGKILL)
parent.wait()

descendants.kill(held)

# Its end closes the pipe that the orphan holds too.
assert select.select([parent.stdout], [], [], 60)[0]
assert parent.stdout.read() == b""
print("ended")
"""


def test_orphan_is_ended_and_what_has_gone_is_no_error() -> None:
    """In a process of its own: this one has descendants that other tests need."""
    run = subprocess.run([sys.executable, "-c", ALONE], check=False, capture_output=True, text=True)

    assert (run.returncode, run.stdout, run.stderr) == (0, "ended\n", "")
