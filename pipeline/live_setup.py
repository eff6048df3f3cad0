"""How a live prompt is answered and thought about, and the requests for that."""

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from headstart.cluster.engine import EngineRequest
from headstart.pipeline.inbound import Salting
from headstart.pipeline.input_language import InputLanguages
from headstart.pipeline.live_context import (
    LiveContext,
    Message,
    rendered,
    request_of,
    salt_of,
    understood,
)
from headstart.pipeline.live_events import MindConfig, Mode, SessionConfig
from headstart.pipeline.live_thinker import Question
from headstart.pipeline.live_warmer import Prompt
from headstart.stages.mind_events import Think
from headstart.stages.mind_prompt import MindPrompt, Noted
from headstart.stages.routing import Wanted

__all__ = ["LiveSetup"]

_TELLING_BYTES = 40
"""Of a text that is being written, for its language to be looked for: of beginnings of 40 bytes in
German, French, Russian, Japanese, Chinese and English at most one in 25 was taken for another."""
_EARLY_CHARS = 400
"""In a longer text more would have to be computed again than a drafter is worth waiting for."""


@dataclass(frozen=True, slots=True)
class LiveSetup:
    """One session's, at one time."""

    model: str
    """The served name that answers."""
    salting: Salting | None
    """Makes the engine's cache salt."""
    mode: Mode = "lossless"
    mind: MindConfig = field(default_factory=MindConfig)
    """How it thinks in `livemind` mode."""
    context: LiveContext = field(default_factory=LiveContext)
    cache_salt: str | None = None
    """That the engine finds in the session's requests."""

    def salted(self) -> "LiveSetup":
        """Return it with the cache salt that it comes to.

        Raises:
            LiveRefused: The sampling fields hold something else in its place.
        """
        request = rendered(self.context.body(self.model, []), self.salting)
        return replace(self, cache_salt=salt_of(request))

    def changed(self, config: SessionConfig, model: str) -> "LiveSetup":
        """Return what it is after a change.

        Args:
            config: What changes.
            model: The served name that answers then.

        Raises:
            LiveRefused: `sampling` has fields that are none.
        """
        unset = msgspec.UNSET
        given: dict[str, Any] = {"mode": config.mode, "mind": config.livemind}
        given = {name: value for name, value in given.items() if value is not unset}
        context = self.context.changed(config)
        return replace(self, model=model, context=context, **given).salted()

    def followed_by(self, *messages: Message) -> "LiveSetup":
        """Return it with a longer conversation."""
        return replace(self, context=self.context.followed_by(*messages))

    def thinks_as(self, other: "LiveSetup") -> bool:
        """Whether who thinks, and how, is as there."""
        return (self.model, self.mode, self.mind) == (other.model, other.mode, other.mind)

    def body(self, text: str, noted: tuple[Noted, ...]) -> bytes:
        """Return the body of the request that has a text answered."""
        messages = self._messages(text, noted, is_complete=True)
        return self.context.body(self.model, messages, stream=True)

    def wanted(self, text: str, languages: InputLanguages) -> Wanted | None:
        """Return what decides on the pool of a text that is still being written.

        Its beginning says too little of its language; then the conversation tells, if that can.

        Raises:
            HeadstartError: The engine will refuse it.
        """
        if not languages.have_pools(self.model):
            return None
        told = text if len(text.encode()) >= _TELLING_BYTES else ""
        body = self.context.body(self.model, self.context.plain(told))
        return understood(body, None, languages).wanted

    def prompt(
        self,
        text: str,
        version: int,
        noted: tuple[Noted, ...],
        shown_to: int,
        wanted: Wanted | None = None,
    ) -> Prompt:
        """Return what is computed ahead: of the text, what no thought is about yet comes last."""
        shown = text[:shown_to]

        def request(tail: str) -> EngineRequest:
            messages = self._messages(shown + tail, noted, is_complete=False)
            return rendered(self.context.body(self.model, messages), self.salting)

        tail, is_early = text[len(shown) :], len(text) <= _EARLY_CHARS
        return Prompt(self.model, tail, version, request, self.cache_salt, wanted, is_early)

    def question(
        self, think: Think, text: str, stream_id: str, languages: InputLanguages
    ) -> Question:
        """Return the request for a thought about a text."""
        model, head = self.mind.thinker or self.model, text[: think.end]
        messages = self._mind_prompt.thinking(self.context.messages, think.noted, head)
        body = self.context.thought_body(model, messages, think.max_tokens)
        inbound = understood(body, self.salting, languages)
        request = msgspec.structs.replace(
            request_of(inbound), stream_id=stream_id, is_background=True
        )
        return Question(request, self.cache_salt, inbound.wanted)

    @property
    def _mind_prompt(self) -> MindPrompt:
        return MindPrompt(self.mind.format, self.context.instructions, self.mind.actions)

    def _messages(self, text: str, noted: tuple[Noted, ...], *, is_complete: bool) -> list[Message]:
        """Return the conversation that is to be answered."""
        if self.mode == "lossless":
            return self.context.plain(text)
        before = self.context.messages
        return self._mind_prompt.answering(before, noted, text, is_complete=is_complete)
