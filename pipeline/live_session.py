"""One prompt that is being written, its conversation, and the answers it gets.

Belongs to a key, not to a connection: whoever has the key and the id edits it, over HTTP or a
WebSocket. Its text is in memory only, and in no log, metric or trace.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from headstart.cluster.engine import EngineRequest
from headstart.cluster.stream import Stream
from headstart.cluster.tasks import Tasks
from headstart.monitoring.labels import Route
from headstart.monitoring.live_meter import LiveMeter
from headstart.monitoring.metrics import Metrics
from headstart.pipeline.access import Caller
from headstart.pipeline.answering import Answering
from headstart.pipeline.inbound import Inbound, Salting, understand
from headstart.pipeline.live_events import (
    Append,
    Clear,
    Replace,
    SessionConfig,
    in_progress,
    refusal,
)
from headstart.pipeline.live_history import said
from headstart.pipeline.live_warmer import LiveWarmer, Progress, Prompt
from headstart.pipeline.request_pace import RequestPace
from headstart.stages.errors import HeadstartError, LiveConflict, LiveRefused
from headstart.stages.mirror import StreamEnd
from headstart.stages.prompt_document import EditError, PromptDocument
from headstart.stages.warm_events import Answered, Committed, Edited, EditKind, Restarted

if TYPE_CHECKING:
    from headstart.stages.warm_policy import Account

__all__ = ["LiveAnswer", "LiveSession"]

_PATH = "/v1/chat/completions"
_OURS = frozenset({"model", "messages", "tools", "stream", "headstart", "priority"})
"""Fields of a request that `sampling` does not set."""
_HEADERS = {"content-type": "application/json"}
_DETACHED = _HEADERS | {"x-headstart-detach": "1"}


class _Salted(msgspec.Struct):
    cache_salt: Annotated[str, msgspec.Meta(min_length=1)] | None = None


class LiveAnswer:
    """The answer to a committed prompt."""

    def __init__(self, stream: Stream, pace: RequestPace, inbound: Inbound) -> None:
        self.stream = stream
        self.pace = pace
        self.inbound = replace(inbound, body=b"")  # it holds the text, which may be cleared
        self.settled: asyncio.Future[Account] = asyncio.get_running_loop().create_future()
        """What was computed ahead for it; done once it is over and the session goes on."""


class LiveSession:
    """One session.

    Args:
        session_id: Names it; not a credential.
        caller: Whose it is.
        answering: Takes committed prompts.
        salting: Makes the engine's cache salt.
        abort: Stops an answer.
        metrics: Told of everything.
        max_chars: Most that it holds.
        warmer: Makes its warmer, of what returns the prompt, its meter, and what is told of it.
    """

    def __init__(
        self,
        session_id: str,
        caller: Caller,
        answering: Answering,
        salting: Salting | None,
        abort: Callable[[Stream], Awaitable[None]],
        metrics: Metrics,
        max_chars: int,
        warmer: Callable[
            [
                Callable[[], Prompt],
                Callable[[], LiveMeter],
                Callable[[Progress | HeadstartError], None],
            ],
            LiveWarmer,
        ],
    ) -> None:
        self.id = session_id
        self.caller = caller
        self.model = answering.name_for(None, caller)
        self.answer: LiveAnswer | None = None
        """The latest, which may be in the making."""
        self.tell: Callable[[Progress | HeadstartError], None] = lambda _: None
        """Called with what happens by itself, for whoever watches."""
        self._answering = answering
        self._salting = salting
        self._abort = abort
        self._metrics = metrics
        self._document = PromptDocument(max_chars)
        self._max_chars = max_chars
        self._instructions: str | None = None
        self._messages: list[dict[str, Any]] = []
        self._tools: list[dict[str, Any]] = []
        self._sampling: dict[str, Any] = {}
        self._tasks = Tasks()
        self._cache_salt = self._salt()
        self._warmer = warmer(self._prompt, self._meter, self._told)

    @property
    def text(self) -> str:
        return self._document.text

    @property
    def version(self) -> int:
        return self._document.version

    @property
    def configured(self) -> str:
        """The configured model that answers."""
        return self._answering.configured(self.model)

    @property
    def progress(self) -> Progress:
        return self._warmer.progress

    @property
    def is_answering(self) -> bool:
        return self.answer is not None and not self.answer.settled.done()

    def start(self) -> None:
        """Begin to compute what comes before the text."""
        self._warmer.start()

    def configure(self, config: SessionConfig) -> None:
        """Change what comes before the text, or how it is answered.

        Raises:
            HeadstartError: It is refused, and all is as it was.
        """
        self._check_quiet()
        unset = msgspec.UNSET
        model = self.model
        if config.model is not unset:
            model = self._answering.name_for(config.model, self.caller)
        if config.sampling is not unset and (reserved := _OURS & config.sampling.keys()):
            name = min(reserved)
            raise LiveRefused(f"`{name}` is no sampling field", param=name, code="invalid_event")
        before = self._instructions, self._messages, self._tools, self._sampling
        if config.instructions is not unset:
            self._instructions = config.instructions
        if config.messages is not unset:
            self._messages = config.messages
        if config.tools is not unset:
            self._tools = config.tools
        if config.sampling is not unset:
            self._sampling = config.sampling
        try:
            self._make_room()
            self._cache_salt = self._salt()
        except HeadstartError:
            self._instructions, self._messages, self._tools, self._sampling = before
            self._make_room()
            raise
        self.model = model
        self._warmer.feed(Restarted())

    def edit(self, event: Append | Replace | Clear) -> None:
        """Change the text.

        Raises:
            LiveRefused: It cannot be done, and the text is as it was.
        """
        self._check_quiet()
        self._check_version(event.version)
        document = self._document
        if isinstance(event, Append):
            kind, edit = EditKind.APPEND, document.append(event.text)
        elif isinstance(event, Replace):
            kind, edit = EditKind.REPLACE, document.replace(event.start, event.end, event.text)
        else:
            kind, edit = EditKind.CLEAR, document.clear()
        if isinstance(edit, EditError):
            raise refusal(edit)
        self._metrics.live_edited(kind)
        self._warmer.feed(Edited(edit.start, len(document.text), edit.is_append))

    def commit(self, version: int | None = None) -> LiveAnswer:
        """Send the text off, as the request that it would have been in one piece.

        Raises:
            HeadstartError: It is refused; the text is still there.
        """
        self._check_quiet()
        self._check_version(version)
        if not self.text:
            raise LiveRefused("there is no text to send off", code="nothing_to_commit")
        pace = self._answering.paced(Route.LIVE)
        self._warmer.feed(Committed())
        try:
            with pace.counted():
                inbound = understand(self._body(self.text, stream=True), _DETACHED, self._salting)
                stream = self._answering.begin(
                    self.caller, inbound, "POST", _PATH, pace, self._warmer.link
                )
        except HeadstartError:
            self._warmer.feed(Answered(len(self.text)))
            raise
        self.answer = LiveAnswer(stream, pace, inbound)
        self._tasks.start(self._follow(self.answer), name=f"live answer {stream.id}")
        return self.answer

    async def cancel(self) -> None:
        """Stop the answer.

        Raises:
            LiveConflict: There is none.
        """
        if not self.is_answering or self.answer is None:
            raise LiveConflict("no answer is being made", code="no_response")
        await self._abort(self.answer.stream)

    async def close(self) -> None:
        """Stop everything and forget the text. The answer in the making goes on."""
        self._meter().ended(self._warmer.settle(0))
        await self._warmer.close()
        await self._tasks.close()
        self._document.clear()
        self._messages, self._instructions = [], None

    async def _follow(self, answer: LiveAnswer) -> None:
        """Wait for the end of an answer; then the conversation goes on."""
        stream = answer.stream
        await stream.finished()
        end = stream.end or StreamEnd()
        account = self._warmer.settle(end.cached_tokens)
        meter = self._meter()
        meter.ended(account)
        meter.committed(end.prompt_tokens, end.cached_tokens)
        header = stream.log.header
        try:
            if header is not None and header.is_event_stream and end.failure is None:
                self._go_on(said(stream))
        finally:  # whatever it was, the session can be used again
            answer.settled.set_result(account)
            self._warmer.feed(Answered(len(self.text)))

    def _go_on(self, message: dict[str, Any]) -> None:
        """Make the text and its answer part of the conversation."""
        user = {"role": "user", "content": self.text}
        self._messages = [*self._messages, user, message]
        self._document.clear()
        self._document.max_chars = max(0, self._room)

    def _told(self, news: Progress | HeadstartError) -> None:
        self.tell(news)

    def _check_quiet(self) -> None:
        if self.is_answering:
            raise in_progress()

    def _check_version(self, version: int | None) -> None:
        if version is not None and version != self.version:
            raise LiveConflict(
                f"the text is at version {self.version}", param="version", code="version_conflict"
            )

    def _make_room(self) -> None:
        """Leave to the text what the rest has not taken."""
        if self._room < len(self.text):
            raise refusal(EditError.TOO_LONG)
        self._document.max_chars = self._room

    @property
    def _room(self) -> int:
        rest = (self._instructions, self._messages, self._tools, self._sampling)
        return self._max_chars - len(msgspec.json.encode(rest).decode())

    def _meter(self) -> LiveMeter:
        return self._metrics.live(self.configured)

    def _prompt(self) -> Prompt:
        return Prompt(self.model, self.text, self.version, self._request, self._cache_salt)

    def _salt(self) -> str | None:
        """Return the cache salt that the engine will find in this session's requests.

        Raises:
            LiveRefused: The sampling fields hold something else in its place.
        """
        try:
            return msgspec.json.decode(self._request("").body, type=_Salted).cache_salt
        except msgspec.ValidationError:
            raise LiveRefused(
                "cache_salt must be text that is not empty",
                param="cache_salt",
                code="invalid_event",
            ) from None

    def _request(self, text: str) -> EngineRequest:
        inbound = understand(self._body(text), _HEADERS, self._salting)
        return EngineRequest("", "POST", _PATH, inbound.headers, inbound.body)

    def _body(self, text: str, **more: object) -> bytes:
        system = [{"role": "system", "content": self._instructions}] if self._instructions else []
        user = {"role": "user", "content": text}
        fields = {"model": self.model, "messages": [*system, *self._messages, user]}
        tools = {"tools": self._tools} if self._tools else {}
        return msgspec.json.encode(self._sampling | fields | tools | more)
