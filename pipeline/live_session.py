"""One prompt that is being written, its conversation, and the answers it gets.

Belongs to a key, not to a connection: whoever has the key and the id edits it, over HTTP or a
WebSocket. Its text is in memory only, and in no log, metric or trace.
"""

import asyncio
import time
from typing import Literal

import msgspec

from headstart.cluster.engine import EngineRequest
from headstart.cluster.tasks import Tasks
from headstart.monitoring.labels import Route
from headstart.monitoring.live_meter import LiveMeter
from headstart.pipeline.access import Caller
from headstart.pipeline.inbound import understand
from headstart.pipeline.live_answer import LiveAnswer, News, Reasoning, Watcher
from headstart.pipeline.live_context import (
    CHAT,
    DETACHED,
    LiveContext,
    Message,
    rendered,
    salt_of,
)
from headstart.pipeline.live_events import (
    Append,
    Clear,
    MindConfig,
    Replace,
    SessionConfig,
    in_progress,
    refusal,
)
from headstart.pipeline.live_factory import thinker_of, warmer_of
from headstart.pipeline.live_history import said, tokens_of
from headstart.pipeline.live_services import LiveServices
from headstart.pipeline.live_thinker import LiveThinker, Question
from headstart.pipeline.live_warmer import Progress, Prompt
from headstart.stages.errors import (
    HeadstartError,
    LiveConflict,
    LiveRefused,
    NotFound,
    Overloaded,
    RateLimited,
)
from headstart.stages.mind_events import Reset, Resumed, Retyped, Think
from headstart.stages.mind_prompt import MindPrompt, Noted
from headstart.stages.mirror import StreamEnd
from headstart.stages.prompt_document import Edit, EditError, PromptDocument
from headstart.stages.warm_events import (
    Answered,
    Committed,
    Edited,
    EditKind,
    LiveStage,
    Restarted,
)

__all__ = ["LiveSession"]


class LiveSession:
    """One session.

    Args:
        services: What it shares with all others.
        caller: Whose it is.

    Raises:
        Forbidden: The key may use no model.
    """

    def __init__(self, services: LiveServices, caller: Caller) -> None:
        answering, max_chars = services.answering, services.settings.max_chars
        self.id = services.access.stream_id(caller)
        """Names it; not a credential."""
        self.caller = caller
        self.model = answering.name_for(None, caller)
        self.answer: LiveAnswer | None = None
        """The latest, which may be in the making."""
        self.mode: Literal["lossless", "livemind"] = "lossless"
        self.mind = MindConfig()
        """How it thinks in `livemind` mode."""
        self.watcher: Watcher | None = None
        self._services = services
        self._answering = answering
        self._salting = services.access.salting(caller)
        self._metrics = services.metrics
        self._document = PromptDocument(max_chars)
        self._max_chars = max_chars
        self._share = services.shares.room(caller)
        self._context = LiveContext()
        self._is_closed = False
        self._is_committing = False
        """Whether a thought is waited for before the text is sent off."""
        self._is_commit_cancelled = False
        self._tasks = Tasks()
        self._thinker: LiveThinker | None = None
        self._cache_salt = self._salt()
        self.warmer = warmer_of(services, caller, self)

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
        return self.warmer.progress

    @property
    def is_answering(self) -> bool:
        return self.answer is not None and not self.answer.settled.done()

    def tell(self, news: News) -> None:
        """Pass on what has happened to whoever watches."""
        if self.watcher is not None:
            self.watcher.tell(news)

    def start(self) -> None:
        """Begin to compute what comes before the text."""
        self.warmer.start()

    def configure(self, config: SessionConfig) -> None:
        """Change what comes before the text, or how it is answered.

        Raises:
            HeadstartError: It is refused, and all is as it was.
        """
        self._check_quiet()
        unset = msgspec.UNSET
        before = self.model, self.mode, self.mind
        context_before, max_chars_before = self._context, self._document.max_chars
        try:
            if config.model is not unset:
                self.model = self._answering.name_for(config.model, self.caller)
            self._context = self._context.changed(config)
            if config.mode is not unset:
                self.mode = config.mode
            if config.livemind is not unset:
                self.mind = config.livemind
            self._make_room()
            self._cache_salt = self._salt()
            self._change_thinker(has_changed=(self.model, self.mode, self.mind) != before)
        except HeadstartError:
            self.model, self.mode, self.mind = before
            self._context = context_before
            self._cache_salt = self._salt()
            self._document.max_chars = max_chars_before
            self._hold()
            raise
        self.warmer.feed(Restarted())

    def edit(self, *events: Append | Replace | Clear) -> None:
        """Change the text; what follows from several changes is done once.

        Raises:
            LiveRefused: One cannot be done: those before it are, those after it are not.
        """
        began = time.monotonic()
        self._check_quiet()
        length, starts = len(self.text), list[int]()
        try:
            for event in events:
                self._check_version(event.version)
                starts.append(self._edited(event).start)
                if not self.text:  # nothing that is known of it is kept, whatever follows
                    self._follow_edits(starts, length)
                    length, starts = 0, []
        finally:  # what follows is timed by itself
            self.meter().passed(LiveStage.INGEST, time.monotonic() - began)
            if starts:
                self._follow_edits(starts, length)

    def _edited(self, event: Append | Replace | Clear) -> Edit:
        """Change the text, and nothing else."""
        document = self._document
        more = "" if isinstance(event, Clear) else event.text
        self._hold(min(len(more), document.max_chars))
        if isinstance(event, Append):
            kind, edit = EditKind.APPEND, document.append(event.text)
        elif isinstance(event, Replace):
            kind, edit = EditKind.REPLACE, document.replace(event.start, event.end, event.text)
        else:
            kind, edit = EditKind.CLEAR, document.clear()
        self._hold()
        if isinstance(edit, EditError):
            raise refusal(edit)
        self._metrics.live_edited(kind)
        return edit

    def _hold(self, more: int = 0) -> None:
        """Hold what there is of what all sessions share, and so many code points more.

        What there is counts though there be no room: an answer takes what it takes, and until that
        is given back nobody gets more.

        Raises:
            Overloaded: There is no room for more.
            RateLimited: There is, but not for this key.
        """
        num_chars = self._max_chars - self._document.max_chars + len(self.text) + more
        if not more:
            self._share.account_for(num_chars)
        elif not self._share.hold(num_chars):
            if self._share.fits(num_chars):
                raise RateLimited("the API key has its share of the room; try again")
            raise Overloaded("all room for live prompts is taken; try again")

    def _follow_edits(self, starts: list[int], length: int) -> None:
        """Think and compute about a text that had so many code points before its edits."""
        start = min(starts)
        if self._thinker is not None:
            self._thinker.feed(Retyped(start, self.text))
        shown = self._shown_to
        self.warmer.feed(Edited(start - shown, len(self.text) - shown, start == length))

    async def commit(self, version: int | None = None) -> LiveAnswer:
        """Send the text off, as the request that it would have been in one piece.

        In `livemind` mode with the thoughts about it, which may be waited for.

        Raises:
            HeadstartError: It is refused; the text is still there.
        """
        self._check_quiet()
        self._check_version(version)
        if not self.text:
            raise LiveRefused("there is no text to send off", code="nothing_to_commit")
        began = time.monotonic()
        try:
            noted = await self._sent_off()
            if self._is_closed:
                raise NotFound("no such live prompt: unknown or expired")
            if self._is_commit_cancelled:
                raise LiveConflict("the text was not sent off", code="commit_cancelled")
            waited_s = time.monotonic() - began
            pace = self._answering.paced(Route.LIVE)
            self.warmer.feed(Committed())
            with pace.counted():
                messages = self._messages(self.text, noted, is_complete=True)
                body = self._context.body(self.model, messages, stream=True)
                inbound = understand(body, DETACHED, self._salting, CHAT, self._answering.languages)
                stream = self._answering.begin(
                    self.caller, inbound, "POST", CHAT, pace, self.warmer.link
                )
        except BaseException:  # also if whoever asked does not wait any longer
            self._reopen()
            raise
        answer = self.answer = LiveAnswer(stream, pace, inbound, waited_s)
        stream.on_end(lambda: self._settle(answer))
        self._tasks.start(self._follow(answer), name=f"live answer {stream.id}")
        return answer

    async def cancel(self) -> None:
        """Stop the answer, or the commit that waits for a thought; the text is still there then.

        Raises:
            LiveConflict: There is neither.
        """
        if self.is_answering and self.answer is not None:
            await self._services.replicas.pool.continuity.abort(self.answer.stream)
        elif self._is_committing and self._thinker is not None:
            self._is_commit_cancelled = True
            self._thinker.wait_no_longer()
            await asyncio.sleep(0)  # whoever commits hears of it before anything else is done
        else:
            raise LiveConflict("no answer is being made", code="no_response")

    async def close(self) -> None:
        """Stop everything and forget the text. The answer in the making goes on."""
        self._is_closed = True
        self._document.clear()
        self._context = LiveContext()
        self._share.hold(0)
        await self.warmer.close()
        if self._thinker is not None:
            await self._thinker.close()
        if self.answer is None or self.answer.stream.end is not None:  # else that settles it
            self.meter().ended(self.warmer.ledger.settle(0))
        await self._tasks.close()

    @property
    def reasoning(self) -> Reasoning | None:
        """What has been thought about the text; None unless the session asked to see it."""
        if self._thinker is None or not self.mind.show_thoughts:
            return None
        shown = [one for one in self._thinker.noted if one.thought.text]
        thoughts = [
            {"end": one.end, "action": one.thought.kind, "text": one.thought.text} for one in shown
        ]
        return Reasoning(self.version, thoughts)

    def rethought(self) -> None:
        """Compute what comes now that there are other thoughts, and tell of them."""
        if self._is_closed:
            return
        self.warmer.feed(Restarted())
        if (news := self.reasoning) is not None:
            self.tell(news)

    def question(self, think: Think) -> Question:
        """Return the request for a thought about the text."""
        model = self.mind.thinker or self.model
        messages = self._mind_prompt.thinking(
            self._context.messages, think.noted, self.text[: think.end]
        )
        body = self._context.thought_body(model, messages, think.max_tokens)
        request = rendered(body, self._salting)
        request = msgspec.structs.replace(
            request, stream_id=self._answering.stream_id(self.caller), is_background=True
        )
        return Question(request, self._cache_salt)

    def _settle(self, answer: LiveAnswer) -> None:
        """Count what an answer found computed, whatever becomes of the session."""
        end = answer.stream.end or StreamEnd()
        answer.account = self.warmer.ledger.settle(end.cached_tokens)
        if self._thinker is not None:
            answer.thought = self._thinker.account()
        meter = self.meter()
        meter.ended(answer.account)
        meter.committed(end.prompt_tokens, end.cached_tokens)

    async def _follow(self, answer: LiveAnswer) -> None:
        """Wait for the end of an answer; then the conversation goes on."""
        stream = answer.stream
        await stream.finished()
        end, header = stream.end or StreamEnd(), stream.log.header
        tokens: tuple[int, ...] = ()
        try:
            if header is not None and header.is_event_stream and end.failure is None:
                self._go_on(said(stream))
                tokens = tokens_of(stream)
        finally:  # whatever it was, the session can be used again
            answer.settled.set_result(None)
            self._reopen(end.prompt_tokens, tokens)

    def _go_on(self, message: Message) -> None:
        """Make the text and its answer part of the conversation."""
        self._context = self._context.followed_by({"role": "user", "content": self.text}, message)
        self._document.clear()
        self._document.max_chars = max(0, self._room)
        self._hold()
        if self._thinker is not None:
            self._thinker.feed(Reset(""))

    def _reopen(self, prompt_tokens: int = 0, tokens: tuple[int, ...] = ()) -> None:
        """Let the text be changed again: the next one, or the one that could not be answered.

        Args:
            prompt_tokens: Of the prompt that was answered.
            tokens: The answer.
        """
        self._is_committing = False
        if self._is_closed:
            return
        if self._thinker is not None:
            self._thinker.feed(Resumed())
        num_chars = len(self.text) - self._shown_to
        self.warmer.feed(Answered(num_chars, prompt_tokens, tokens))

    async def _sent_off(self) -> tuple[Noted, ...]:
        self._is_commit_cancelled = False
        if self._thinker is None:
            return ()
        self._is_committing = True
        return await self._thinker.sent_off()

    def _change_thinker(self, *, has_changed: bool) -> None:
        """Think as it is asked for now, from the beginning of the text on.

        Raises:
            HeadstartError: It may not be.
        """
        before = self._thinker
        if has_changed or before is None:
            self._thinker = None
            if self.mode == "livemind":
                parts = self._services, self.caller, self.model, self.mind, self
                self._thinker = thinker_of(*parts)
            if before is not None:
                before.feed(Reset(""))
                self._tasks.start(before.close(), name="close live thinker")
        if self._thinker is not None:
            self._thinker.feed(Reset(self.text))

    @property
    def _shown_to(self) -> int:
        return 0 if self._thinker is None else self._thinker.shown_to

    @property
    def _mind_prompt(self) -> MindPrompt:
        return MindPrompt(self.mind.format, self._context.instructions, self.mind.actions)

    def _messages(self, text: str, noted: tuple[Noted, ...], *, is_complete: bool) -> list[Message]:
        """Return the conversation that is to be answered."""
        if self._thinker is None:
            return self._context.plain(text)
        before = self._context.messages
        return self._mind_prompt.answering(before, noted, text, is_complete=is_complete)

    def _check_quiet(self) -> None:
        if self.is_answering or self._is_committing:
            raise in_progress()

    def _check_version(self, version: int | None) -> None:
        if version is not None and version != self.version:
            raise LiveConflict(
                f"the text is at version {self.version}", param="version", code="version_conflict"
            )

    def _make_room(self) -> None:
        """Leave to the text what the rest has not taken."""
        room = self._room
        if room < len(self.text):
            raise refusal(EditError.TOO_LONG)
        more = self._document.max_chars - room
        if more > 0:
            self._hold(more)
        self._document.max_chars = room
        self._hold()

    @property
    def _room(self) -> int:
        return self._max_chars - self._context.num_chars

    def meter(self) -> LiveMeter:
        """Return what counts the session's work."""
        return self._metrics.live(self.configured)

    def prompt(self) -> Prompt:
        """Return what is computed ahead: of the text, what no thought is about yet comes last."""
        noted = () if self._thinker is None else self._thinker.noted
        shown = self.text[: self._shown_to]

        def request(tail: str) -> EngineRequest:
            messages = self._messages(shown + tail, noted, is_complete=False)
            return rendered(self._context.body(self.model, messages), self._salting)

        tail = self.text[len(shown) :]
        return Prompt(self.model, tail, self.version, request, self._cache_salt)

    def _salt(self) -> str | None:
        """Return the cache salt that the engine will find in this session's requests.

        Raises:
            LiveRefused: The sampling fields hold something else in its place.
        """
        return salt_of(rendered(self._context.body(self.model, []), self._salting))
