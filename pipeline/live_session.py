"""One prompt that is being written, its conversation, and the answers it gets.

Belongs to a key, not to a connection: whoever has the key and the id edits it, over HTTP or a
WebSocket. Its text is in memory only, and in no log, metric or trace.
"""

import asyncio
import time
from dataclasses import replace

import msgspec

from headstart.cluster.tasks import Tasks
from headstart.monitoring.labels import Route
from headstart.monitoring.live_meter import LiveMeter
from headstart.pipeline.access import Caller
from headstart.pipeline.inbound import understand
from headstart.pipeline.live_answer import LiveAnswer, News, Reasoning, Watcher
from headstart.pipeline.live_context import CHAT, DETACHED, LiveContext, Message
from headstart.pipeline.live_draft import LiveDraft
from headstart.pipeline.live_events import (
    Append,
    Clear,
    MindConfig,
    Mode,
    Replace,
    SessionConfig,
    in_progress,
)
from headstart.pipeline.live_factory import thinker_of, warmer_of
from headstart.pipeline.live_history import said, tokens_of
from headstart.pipeline.live_services import LiveServices
from headstart.pipeline.live_setup import LiveSetup
from headstart.pipeline.live_thinker import LiveThinker, Question
from headstart.pipeline.live_warmer import Progress, Prompt
from headstart.stages.errors import (
    LiveConflict,
    LiveRefused,
    NotFound,
)
from headstart.stages.mind_events import Reset, Resumed, Retyped, Think
from headstart.stages.mind_prompt import Noted
from headstart.stages.mirror import StreamEnd
from headstart.stages.warm_events import (
    Answered,
    Committed,
    Edited,
    EditKind,
    LiveStage,
    Restarted,
)

__all__ = ["LiveSession"]

_KINDS = {Append: EditKind.APPEND, Replace: EditKind.REPLACE, Clear: EditKind.CLEAR}


class LiveSession:
    """One session.

    Args:
        services: What it shares with all others.
        caller: Whose it is.

    Raises:
        Forbidden: The key may use no model.
    """

    def __init__(self, services: LiveServices, caller: Caller) -> None:
        answering = services.answering
        self.id = services.access.stream_id(caller)
        """Names it; not a credential."""
        self.caller = caller
        self.answer: LiveAnswer | None = None
        """The latest, which may be in the making."""
        self.watcher: Watcher | None = None
        self._services = services
        self._answering = answering
        self._metrics = services.metrics
        model = answering.name_for(None, caller)
        self._setup = LiveSetup(model, services.access.salting(caller)).salted()
        self._draft = LiveDraft(services.settings.max_chars, services.shares.room(caller))
        self._is_closed = False
        self._is_committing = False
        """Whether a thought is waited for before the text is sent off."""
        self._is_commit_cancelled = False
        self._tasks = Tasks()
        self._thinker: LiveThinker | None = None
        self.warmer = warmer_of(services, caller, self)

    @property
    def text(self) -> str:
        return self._draft.text

    @property
    def version(self) -> int:
        return self._draft.version

    @property
    def model(self) -> str:
        """The served name that answers."""
        return self._setup.model

    @property
    def mode(self) -> Mode:
        return self._setup.mode

    @property
    def mind(self) -> MindConfig:
        """How it thinks in `livemind` mode."""
        return self._setup.mind

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
        setup = self._changed(config)
        thinker = self._thinker_with(setup)
        self._draft.leave(setup.context.num_chars)
        before, self._thinker, self._setup = self._thinker, thinker, setup
        if before is not None and before is not thinker:
            before.feed(Reset(""))
            self._tasks.start(before.close(), name="close live thinker")
        if thinker is not None:
            thinker.feed(Reset(self.text))
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
                starts.append(self._draft.edit(event))
                self._metrics.live_edited(_KINDS[type(event)])
                if not self.text:  # nothing that is known of it is kept, whatever follows
                    self._follow_edits(starts, length)
                    length, starts = 0, []
        finally:  # what follows is timed by itself
            self.meter().passed(LiveStage.INGEST, time.monotonic() - began)
            if starts:
                self._follow_edits(starts, length)

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
        self._draft.check_version(version)
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
                body, salting = self._setup.body(self.text, noted), self._setup.salting
                inbound = understand(body, DETACHED, salting, CHAT, self._answering.languages)
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
        self._draft.forget()
        self._setup = replace(self._setup, context=LiveContext())
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
        return self._setup.question(think, self.text, self._answering.stream_id(self.caller))

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
        self._setup = self._setup.followed_by({"role": "user", "content": self.text}, message)
        self._draft.begin(self._setup.context.num_chars)
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

    def _changed(self, config: SessionConfig) -> LiveSetup:
        model = self.model
        if config.model is not msgspec.UNSET:
            model = self._answering.name_for(config.model, self.caller)
        return self._setup.changed(config, model)

    def _thinker_with(self, setup: LiveSetup) -> LiveThinker | None:
        """Return who thinks as it is asked for.

        Raises:
            HeadstartError: It may not be.
        """
        if setup.mode == "lossless":
            return None
        if self._thinker is not None and setup.thinks_as(self._setup):
            return self._thinker
        return thinker_of(self._services, self.caller, setup.model, setup.mind, self)

    @property
    def _shown_to(self) -> int:
        return 0 if self._thinker is None else self._thinker.shown_to

    def _check_quiet(self) -> None:
        if self.is_answering or self._is_committing:
            raise in_progress()

    def meter(self) -> LiveMeter:
        """Return what counts the session's work."""
        return self._metrics.live(self.configured)

    def prompt(self) -> Prompt:
        """Return what is computed ahead."""
        noted = () if self._thinker is None else self._thinker.noted
        return self._setup.prompt(self.text, self.version, noted, self._shown_to)
