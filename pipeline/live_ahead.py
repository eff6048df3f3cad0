"""What is done for one live prompt before it is sent off: it is computed, and thought about."""

from typing import Protocol

from headstart.cluster.tasks import Tasks
from headstart.monitoring.live_meter import LiveMeter
from headstart.pipeline.access import Caller
from headstart.pipeline.live_answer import LiveAnswer, News, Reasoning
from headstart.pipeline.live_factory import thinker_of, warmer_of
from headstart.pipeline.live_services import LiveServices
from headstart.pipeline.live_setup import LiveSetup
from headstart.pipeline.live_thinker import LiveThinker, Question
from headstart.pipeline.live_warmer import Prompt
from headstart.stages.mind_events import Reset, Resumed, Retyped, Think
from headstart.stages.mind_prompt import Noted
from headstart.stages.mirror import StreamEnd
from headstart.stages.routing import Wanted
from headstart.stages.segmenter import AUTO
from headstart.stages.stable_prefix import boundary
from headstart.stages.warm_events import Answered, Edited, Restarted

__all__ = ["LiveAhead"]

_LOOKS_BACK = 4096
"""Code points in which the last word is looked for at each edit; it may be longer in any script
that has no spaces, and is then computed later."""


class Drafted(Protocol):
    """The session that it is done for."""

    @property
    def caller(self) -> Caller: ...
    @property
    def setup(self) -> LiveSetup: ...
    @property
    def text(self) -> str: ...
    @property
    def version(self) -> int: ...
    def tell(self, news: News) -> None:
        """Take what has happened."""


class LiveAhead:
    """One session's warmer, and who thinks about its text, if anybody does.

    Args:
        services: What all sessions share.
        session: Whose text it is.
    """

    def __init__(self, services: LiveServices, session: Drafted) -> None:
        self._services = services
        self._session = session
        self._is_closed = False
        self._tasks = Tasks()
        self._told: tuple[int, Wanted | None] | None = None
        """Version of the text, and what decides on its pool."""
        self.tell = session.tell
        self.thinker: LiveThinker | None = None
        self.warmer = warmer_of(services, session.caller, self)

    @property
    def noted(self) -> tuple[Noted, ...]:
        """Thoughts that hold for the text as it is."""
        return () if self.thinker is None else self.thinker.noted

    @property
    def reasoning(self) -> Reasoning | None:
        """What has been thought about the text; None unless the session asked to see it."""
        if self.thinker is None or not self._session.setup.mind.show_thoughts:
            return None
        shown = [one for one in self.noted if one.thought.text]
        thoughts = [
            {"end": one.end, "action": action.kind, "text": action.text}
            for one in shown
            for action in one.thought.actions
        ]
        return Reasoning(self._session.version, thoughts)

    def thinker_with(self, setup: LiveSetup) -> LiveThinker | None:
        """Return who thinks as it is asked for.

        Raises:
            HeadstartError: It may not be.
        """
        if setup.mode == "lossless":
            return None
        if self.thinker is not None and setup.thinks_as(self._session.setup):
            return self.thinker
        if setup.mind.language == AUTO:
            self._services.load_languages()
        return thinker_of(self._services, self._session.caller, setup.model, setup.mind, self)

    def restart(self, thinker: LiveThinker | None) -> None:
        """Begin again with what comes before the text now, and who thinks now."""
        self._told = None  # the model may be another, and what else is asked for
        before, self.thinker = self.thinker, thinker
        if before is not None and before is not thinker:
            before.feed(Reset(""))
            self._tasks.start(before.close(), name="close live thinker")
        if thinker is not None:
            thinker.feed(Reset(self._session.text))
        self.warmer.feed(Restarted())

    def edited(self, start: int, length: int) -> None:
        """Go on after an edit from `start` on of a text that had so many code points."""
        text = self._session.text
        if self.thinker is not None:
            self.thinker.feed(Retyped(start, text))
        shown = self._shown_to
        left, at = text[shown:], start - shown
        cut = boundary(left, since=max(at, len(left) - _LOOKS_BACK)).cut
        self.warmer.feed(Edited(at, len(left), cut, start == length))

    def begun(self) -> None:
        """Go on to another text, of which there is nothing yet."""
        self._told = None
        if self.thinker is not None:
            self.thinker.feed(Reset(""))
        self.warmer.feed(Restarted())

    def reopened(self, prompt_tokens: int, tokens: tuple[int, ...]) -> None:
        """Go on with what can be edited again: the next text, or one that was not answered.

        Args:
            prompt_tokens: Of the prompt that was answered.
            tokens: The answer.
        """
        if self.thinker is not None:
            self.thinker.feed(Resumed())
        self.warmer.feed(Answered(prompt_tokens, tokens))

    def settle(self, answer: LiveAnswer) -> None:
        """Count what an answer found computed, whatever becomes of the session."""
        end = answer.stream.end or StreamEnd()
        num_decoded = 0
        if self.thinker is not None:
            answer.thought = self.thinker.account()
            num_decoded = answer.thought.used_tokens if self.thinker.is_own else 0
        answer.account = self.warmer.ledger.settle(end.cached_tokens, num_decoded)
        meter = self.meter()
        meter.ended(answer.account)
        meter.committed(end.prompt_tokens, end.cached_tokens)

    async def close(self) -> None:
        """Stop everything."""
        self._is_closed = True
        await self.warmer.close()
        if self.thinker is not None:
            await self.thinker.close()
        await self._tasks.close()

    def meter(self) -> LiveMeter:
        """Return what counts the session's work."""
        configured = self._services.answering.configured(self._session.setup.model)
        return self._services.metrics.live(configured)

    def prompt(self) -> Prompt:
        """As `Written`: return what is computed ahead."""
        session = self._session
        setup, text, version = session.setup, session.text, session.version
        return setup.prompt(text, version, self.noted, self._shown_to, self._wanted())

    def question(self, think: Think) -> Question:
        """As `ThoughtAbout`: return the request for a thought about the text."""
        session = self._session
        stream_id = self._services.answering.stream_id(session.caller)
        languages = self._services.answering.languages
        return session.setup.question(think, session.text, stream_id, languages)

    def rethought(self) -> None:
        """As `ThoughtAbout`: compute what comes with other thoughts, and tell of them."""
        if self._is_closed:
            return
        self.warmer.feed(Restarted())
        if (news := self.reasoning) is not None:
            self.tell(news)

    def _wanted(self) -> Wanted | None:
        """What decides on the text's pool, looked for once for each version."""
        setup, version = self._session.setup, self._session.version
        if self._told is None or self._told[0] != version:
            languages = self._services.answering.languages
            self._told = version, setup.wanted(self._session.text, languages)
        return self._told[1]

    @property
    def _shown_to(self) -> int:
        return 0 if self.thinker is None else self.thinker.shown_to
