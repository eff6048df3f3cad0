"""One prompt that is being written, its conversation, and the answers it gets.

Belongs to a key, not to a connection: whoever has the key and the id edits it, over HTTP or a
WebSocket. Its text is in memory only, and in no log, metric or trace.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from headstart.cluster.tasks import Tasks
from headstart.monitoring.labels import Route
from headstart.pipeline.access import Caller
from headstart.pipeline.inbound import understand
from headstart.pipeline.live_ahead import LiveAhead
from headstart.pipeline.live_answer import LiveAnswer, News, Reasoning, Watcher
from headstart.pipeline.live_context import CHAT, DETACHED, LiveContext, Message
from headstart.pipeline.live_draft import LiveDraft
from headstart.pipeline.live_events import (
    Append,
    Clear,
    EditEvent,
    MindConfig,
    Mode,
    Replace,
    SessionConfig,
    in_progress,
)
from headstart.pipeline.live_history import said, tokens_of
from headstart.pipeline.live_services import LiveServices
from headstart.pipeline.live_setup import LiveSetup
from headstart.pipeline.live_warmer import Progress
from headstart.stages.errors import (
    LiveConflict,
    LiveRefused,
    NotFound,
)
from headstart.stages.mind_prompt import Noted
from headstart.stages.mirror import StreamEnd
from headstart.stages.warm_events import (
    Committed,
    EditKind,
    LiveStage,
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
        self.id = services.access.stream_id(caller)
        """Names it; not a credential."""
        self.caller = caller
        model = services.answering.name_for(None, caller)
        self.setup = LiveSetup(model, services.access.salting(caller)).salted()
        """How it is answered, and thought about."""
        self.answer: LiveAnswer | None = None
        """The latest, which may be in the making."""
        self.watcher: Watcher | None = None
        self._answering = services.answering
        self._metrics = services.metrics
        self._draft = LiveDraft(services.settings.max_chars, services.shares.room(caller))
        self._is_closed = False
        self._is_committing = False
        self._is_commit_cancelled = False
        self._tasks = Tasks()
        self.ahead = LiveAhead(services, self)

    @property
    def text(self) -> str:
        return self._draft.text

    @property
    def version(self) -> int:
        return self._draft.version

    @property
    def model(self) -> str:
        """The served name that answers."""
        return self.setup.model

    @property
    def mode(self) -> Mode:
        return self.setup.mode

    @property
    def mind(self) -> MindConfig:
        """How it thinks in `livemind` mode."""
        return self.setup.mind

    @property
    def has_private_cache(self) -> bool:
        """Whether no other request finds in a cache what is computed for it."""
        return self.setup.context.private_salt is not None

    @property
    def progress(self) -> Progress:
        return self.ahead.warmer.progress

    @property
    def is_answering(self) -> bool:
        return self.answer is not None and not self.answer.settled.done()

    @property
    def is_committing(self) -> bool:
        """Whether a thought is waited for before the text is sent off."""
        return self._is_committing

    def tell(self, news: News) -> None:
        """Pass on what has happened to whoever watches."""
        if self.watcher is not None:
            self.watcher.tell(news)

    def start(self) -> None:
        """Begin to compute what comes before the text."""
        self.ahead.warmer.start()

    def configure(self, config: SessionConfig) -> None:
        """Change what comes before the text, or how it is answered.

        Raises:
            HeadstartError: It is refused, and all is as it was.
        """
        self._check_quiet()
        setup = self._changed(config)
        thinker = self.ahead.thinker_with(setup)
        self._draft.leave(setup.context.num_chars)
        self.setup = setup
        self.ahead.restart(thinker)

    def edit(self, *events: EditEvent) -> None:
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
                    self.ahead.edited(min(starts), length)
                    length, starts = 0, []
        finally:  # what follows is timed by itself
            self.ahead.meter().passed(LiveStage.INGEST, time.monotonic() - began)
            if starts:
                self.ahead.edited(min(starts), length)

    def catch_up(self, events: Sequence[EditEvent], digest: str | None) -> None:
        """Make those of some edits that are not made yet, however often they come.

        Args:
            digest: SHA-256 of the text that there has to be then.

        Raises:
            HeadstartError: As for `edit`, or the text is another.
        """
        self._check_quiet()
        if missing := self._draft.missing(events):
            self.edit(*missing)
        self._draft.check_text(digest)

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
            self._check_open()
            if self._is_commit_cancelled:
                raise LiveConflict("the text was not sent off", code="commit_cancelled")
            waited_s = time.monotonic() - began
            pace = self._answering.paced(Route.LIVE)
            self.ahead.warmer.feed(Committed())
            with pace.counted():
                body, salting = self.setup.body(self.text, noted), self.setup.salting
                inbound = understand(body, DETACHED, salting, CHAT, self._answering.languages)
                stream = self._answering.begin(
                    self.caller, inbound, "POST", CHAT, pace, self.ahead.warmer.link
                )
        except BaseException:  # also if whoever asked does not wait any longer
            self._reopen()
            raise
        self._is_committing = False
        answer = self.answer = LiveAnswer(stream, pace, inbound, waited_s)
        stream.on_end(lambda: self.ahead.settle(answer))
        self._tasks.start(self._follow(answer), name=f"live answer {stream.id}")
        return answer

    async def cancel(self) -> None:
        """Stop the answer, or the commit that waits for a thought; the text is still there then.

        Raises:
            LiveConflict: There is neither.
        """
        if self.is_answering and self.answer is not None:
            await self._answering.abort(self.answer.stream)
        elif self._is_committing and self.ahead.thinker is not None:
            self._is_commit_cancelled = True
            self.ahead.thinker.wait_no_longer()
            await asyncio.sleep(0)  # whoever commits hears of it before anything else is done
        else:
            raise LiveConflict("no answer is being made", code="no_response")

    async def close(self) -> None:
        """Stop everything and forget the text. The answer in the making goes on."""
        self._is_closed = True
        self._draft.forget()
        self.setup = replace(self.setup, context=LiveContext())
        await self.ahead.close()
        if self.answer is None or self.answer.stream.end is not None:  # else that settles it
            self.ahead.meter().ended(self.ahead.warmer.ledger.settle(0))
        await self._tasks.close()

    @property
    def reasoning(self) -> Reasoning | None:
        """What has been thought about the text; None unless the session asked to see it."""
        return self.ahead.reasoning

    async def _follow(self, answer: LiveAnswer) -> None:
        """Wait for the end of an answer; then the conversation goes on."""
        stream, end = answer.stream, StreamEnd()
        tokens: tuple[int, ...] = ()
        try:
            await stream.finished()
            end, header = stream.end or end, stream.log.header
            is_answered = header is not None and header.is_event_stream and end.failure is None
            if is_answered and not self._is_closed:
                self._go_on(said(stream))
                tokens = tokens_of(stream)
        finally:  # whatever it was, nobody waits for more, and the session can be used again
            answer.settled.set_result(None)
            self._reopen(end.prompt_tokens, tokens)

    def _go_on(self, message: Message) -> None:
        """Make the text and its answer part of the conversation."""
        self.setup = self.setup.followed_by({"role": "user", "content": self.text}, message)
        self._draft.begin(self.setup.context.num_chars)
        self.ahead.begun()

    def _reopen(self, prompt_tokens: int = 0, tokens: tuple[int, ...] = ()) -> None:
        """Let the text be changed again: the next one, or the one that could not be answered.

        Args:
            prompt_tokens: Of the prompt that was answered.
            tokens: The answer.
        """
        self._is_committing = False
        if not self._is_closed:
            self.ahead.reopened(prompt_tokens, tokens)

    async def _sent_off(self) -> tuple[Noted, ...]:
        self._is_commit_cancelled = False
        if self.ahead.thinker is None:
            return ()
        self._is_committing = True
        return await self.ahead.thinker.sent_off()

    def _changed(self, config: SessionConfig) -> LiveSetup:
        model = self.model
        if config.model is not msgspec.UNSET:
            model = self._answering.name_for(config.model, self.caller)
        return self.setup.changed(config, model)

    def _check_open(self) -> None:
        if self._is_closed:
            raise NotFound("no such live prompt: unknown or expired")

    def _check_quiet(self) -> None:
        self._check_open()
        if self.is_answering or self._is_committing:
            raise in_progress()
