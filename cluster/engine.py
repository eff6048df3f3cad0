"""The contract between whoever serves requests and whoever makes tokens.

One suite (tests/contract) runs over every implementation: the shipped fake, vLLM in process, and
either of them behind Ray Serve and the data plane. Everything above this line of the system
knows an `Engine` and nothing else.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import msgspec

from headstart.cluster.stream import Stream
from headstart.stages.speculation_counts import SpeculationCounts

__all__ = ["Engine", "EngineInfo", "EngineLoad", "EngineRequest", "Warmth"]


class EngineRequest(msgspec.Struct, frozen=True, array_like=True):
    """One client request, as the engine's own HTTP app would have received it."""

    stream_id: str
    """Unique over the life of the daemon; names the answer's log."""
    method: str
    path: str
    """Such as `/v1/chat/completions`; the gateway has checked it against its allow-list."""
    headers: tuple[tuple[str, str], ...] = ()
    """The few headers an engine may act on, names in lower case."""
    body: bytes = b""
    key_id: str = ""
    """Whose of the configured keys asks; empty where there are none."""
    is_background: bool = False
    """Whether all others come first: it is not begun while one of them waits for its first token,
    and only so many such requests run at once (`ModelSettings.max_thoughts`)."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Facts about a started engine."""

    model: str
    """Served model name."""
    max_model_len: int
    """Longest prompt plus answer, in tokens."""
    block_size: int
    """Tokens per prefix-cache block."""
    speculation: str | None = None
    """How a request is drafted for that does not say; None where nothing drafts."""


class EngineLoad(msgspec.Struct, frozen=True, array_like=True):
    """How busy an engine is."""

    running: int = 0
    """Requests in the current batch."""
    waiting: int = 0
    """Requests accepted but not yet scheduled."""


@dataclass(frozen=True, slots=True)
class Warmth:
    """What `warm` found and did."""

    num_cached: int
    """Tokens that were in the prefix cache already."""
    seconds: float
    """Time that the engine spent, without the wait for a turn."""


class Engine(ABC):
    """Makes answers.

    Lifecycle: construct (cheap, no side effect), `start` once, any number of requests, `close`
    once; `close` is safe after a failed `start`. After `start` returns, `serve` works.
    """

    @abstractmethod
    async def start(self) -> EngineInfo:
        """Load the model and be ready.

        Raises:
            SetupError: The model or the machine is not fit; the message names the fix.
        """

    @abstractmethod
    async def close(self) -> None:
        """Abort every request and free everything. Idempotent."""

    @abstractmethod
    def load(self) -> EngineLoad:
        """Return the latest known load; never blocks."""

    def speculation(self) -> SpeculationCounts | None:
        """Return what speculation has done so far, as last heard; None if there is none."""
        return None

    def check_health(self) -> None:  # noqa: B027 - an engine that cannot die alone needs none
        """Return if the engine can still answer.

        Raises:
            EngineFailed: It has died and must be replaced.
        """

    @abstractmethod
    async def render(self, request: EngineRequest) -> list[int]:
        """Return the prompt token ids that serving `request` would compute.

        Raises:
            BadRequest: The engine refuses the request.
        """

    @abstractmethod
    async def warm(
        self, tokens: list[int], *, cache_salt: str | None = None, model: str | None = None
    ) -> Warmth:
        """Compute `tokens` into the prefix cache; cancel the call to stop early.

        One such call runs at a time, and none is begun while an answer waits for its first token.

        Args:
            cache_salt: As the request that these are the head of will have it.
            model: The name that request will give; None is the engine's own, not an adapter's.

        Raises:
            BadRequest: There are no tokens, too many, or there is no such model.
        """

    @abstractmethod
    def serve(self, request: EngineRequest, *, logged: bytes = b"") -> Stream:
        """Begin to answer a request, or go on with an answer that another engine had begun.

        The answer, errors included, is written to the returned stream's log: a header, frames,
        and a `StreamEnd`. Nothing is raised for what the client sent.

        Args:
            logged: What there is of the answer's log, up to any cursor. The new log begins with
                exactly these bytes; it ends with `NotContinued` where this engine cannot go on
                from there.

        Raises:
            ProtocolViolation: The stream id is in use, or `logged` is no log.
        """

    @abstractmethod
    def attach(self, stream_id: str, after: int) -> Stream:
        """Return a stream begun earlier and still kept.

        Raises:
            NotFound: It is unknown or expired.
            BadRequest: `after` is not one of its cursors.
        """

    @abstractmethod
    async def abort(self, stream_id: str) -> None:
        """Stop computing an answer and close its log. Unknown and finished ids are ignored."""
