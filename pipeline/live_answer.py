"""What a live prompt gives to whoever watches it: its answer, progress, thoughts, changes."""

import asyncio
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from headstart.cluster.stream import Stream
from headstart.pipeline.inbound import Inbound
from headstart.pipeline.live_warmer import Progress
from headstart.pipeline.request_pace import RequestPace
from headstart.stages.errors import HeadstartError

if TYPE_CHECKING:
    from headstart.stages.live_mind import MindAccount
    from headstart.stages.warm_ledger import Account

__all__ = ["Changed", "Gone", "LiveAnswer", "News", "Reasoning", "Watcher"]


class Reasoning(msgspec.Struct, frozen=True):
    """What has been thought about the text, for a client that asked to see it."""

    version: int
    thoughts: list[dict[str, Any]]
    """Each with the code points that it is about (`end`), its `action` and its `text`."""


class Gone(StrEnum):
    """Why there is no more news for a watcher; values are error codes."""

    TAKEN_OVER = "taken_over"
    """Another one has taken over."""
    ENDED = "session_ended"
    """The session has ended."""


class Changed(StrEnum):
    """What somebody has changed who is not the one that watches."""

    SESSION = "session"
    TEXT = "text"


class LiveAnswer:
    """The answer to a committed prompt."""

    def __init__(
        self, stream: Stream, pace: RequestPace, inbound: Inbound, waited_s: float
    ) -> None:
        self.stream = stream
        self.pace = pace
        self.inbound = replace(inbound, body=b"")  # it holds the text, which may be cleared
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once it is over and the session goes on."""
        self.account: Account | None = None
        """What was computed ahead for it; set when it is over, if no fault keeps it from that."""
        self.waited_s = waited_s
        """From the commit on, for a thought in the making: before the request began."""
        self.thought: MindAccount | None = None
        """What was thought for it; None where nobody did."""


News = Progress | Reasoning | Changed | LiveAnswer | HeadstartError | Gone
"""What happens by itself, or by another connection."""


class Watcher(Protocol):
    """The one connection that a session's news goes to."""

    def tell(self, news: News) -> None:
        """Take what has happened."""

    async def answered(self) -> None:
        """Wait until the answers that were begun have been passed on."""
