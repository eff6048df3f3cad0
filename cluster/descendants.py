"""The processes that this one has started, and those that they have, for the time after them.

A process whose parent is gone is no longer found below this one, but what was held can be ended.
"""

import os
import signal
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["hold", "kill"]


def hold() -> list[int]:
    """Open a descriptor of each living descendant: no later process can be mistaken for it."""
    held = []
    for pid in _below(os.getpid()):
        with suppress(ProcessLookupError):
            held.append(os.pidfd_open(pid))
    return held


def kill(held: Iterable[int]) -> None:
    """End those that are still there, and close the descriptors."""
    for descriptor in held:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        os.close(descriptor)


def _below(root: int) -> list[int]:
    children = defaultdict(list)
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            # After the name, which may hold anything: state, then the parent.
            parent = int(status.read_text(errors="replace").rpartition(")")[2].split()[1])
            children[parent].append(int(status.parent.name))
    found = list(children[root])
    for pid in found:  # grows as it goes
        found += children[pid]
    return found
