"""Processes that are held are found again when nobody is above them any more."""

import select
import signal
import subprocess

from headstart.cluster import descendants

ORPHANS = "sleep 60 & echo started; wait"
"""A shell with a child."""


def test_orphan_is_ended_and_what_has_gone_is_no_error() -> None:
    with subprocess.Popen(["sh", "-c", ORPHANS], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        held = descendants.hold()
        assert len(held) >= 2
        parent.send_signal(signal.SIGKILL)
        parent.wait()

        descendants.kill(held)

        # Its end closes the pipe that the orphan holds too.
        assert select.select([parent.stdout], [], [], 10)[0]
        assert parent.stdout.read() == b""
