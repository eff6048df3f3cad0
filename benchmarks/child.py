"""Python processes that a benchmark starts and speaks to in lines of JSON.

Settings go in on standard input, never as arguments: they hold secrets.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import msgspec

from headstart.benchmarks.arms import Arm
from headstart.stages.errors import SetupError

__all__ = ["Child", "command", "first_line", "lines", "say"]

Answer = TypeVar("Answer")
_MAX_LINE_BYTES = 1 << 26


def command(module: str, entry: str) -> tuple[str, ...]:
    """Return the command that calls a function of a module in a process of its own."""
    return (sys.executable, "-c", f"from {module} import {entry}; {entry}()")


class Child:
    """A child process that answers each line with a line.

    Args:
        name: The arm's name.
        argv: Program and arguments.
        log: Where its standard error goes.
    """

    def __init__(self, name: str, argv: tuple[str, ...], log: Path) -> None:
        self.arm = Arm(name, argv, log, is_spoken_to=True)

    def tell(self, line: bytes) -> None:
        """Send one line."""
        assert self.arm.process.stdin is not None
        self.arm.process.stdin.write(line + b"\n")
        self.arm.process.stdin.flush()

    def hear(self, kind: type[Answer]) -> Answer:
        """Wait for its next line and decode it.

        Raises:
            SetupError: The child ended instead.
        """
        assert self.arm.process.stdout is not None
        line = self.arm.process.stdout.readline()
        if not line:
            raise SetupError(f"{self.arm.name} ended:\n{self.arm.tail()}")
        return msgspec.json.decode(line, type=kind)


def first_line() -> bytes:
    """In a child: the first line that it is told, before its event loop runs."""
    # Unbuffered: a reader that looks ahead would swallow the lines after it.
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as told:
        return told.readline()


async def lines() -> AsyncIterator[bytes]:
    """In a child: what it is told, until its input ends."""
    reader = asyncio.StreamReader(limit=_MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        yield line


def say(answer: object) -> None:
    """In a child: answer with a line."""
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()
