"""The prompts of LiveMind: how text, and what has been thought about it, become messages.

The paper's best two formats (arXiv 2406.14319), in our own words. A prefix cache keeps what a
prompt has in common with the last one from its beginning on, so a format is as good for latency as
it appends: only the default does nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from headstart.stages.thoughts import BASIC_ACTIONS, Kind, Thought

__all__ = ["Format", "MindPrompt", "Noted"]

Message = dict[str, Any]

_ACTIONS = {
    Kind.INFERENCE: "`action inference. <what follows from the text so far, in a sentence or two>`",
    Kind.WAIT: "`action wait.` if nothing useful follows yet",
    Kind.BACKGROUND: "`action background. <what the text is about, and what is known of it>`",
    Kind.HYPOTHESISE: "`action hypothesise. <what will be asked, and what would follow>`",
}
_TYPING = (
    "The user's message is still being written and comes in parts. After each part reply with one "
    "line only, which the user does not see:\n{actions}"
)
_ANSWERING = (
    "The message has come in parts, with notes of yours between them that the user has not seen. "
    "Use the notes, and answer the user's message directly."
)
_BOTH = (
    f"{_TYPING}\nOnce a part ends with `{{end}}`, the message is complete: use your notes, and "
    "answer the user's message directly."
)
_END = "[end]"
"""A few tokens: they are the last to be computed before an answer's first."""


class Format(StrEnum):
    """How text and thoughts are laid out."""

    UA_SPI = "ua-spi"
    """Parts and thoughts take turns, one system prompt for both stages: every prompt begins with
    the one before, so the prefix cache has all but what is new."""
    UA_PIL = "ua-pil"
    """The text that was thought about, then all thoughts, then the rest. Not prefix-friendly: each
    thought moves those before it."""
    TWO_PROMPTS = "two-prompts"
    """As `ua-spi`, with a system prompt for each stage, as in the paper. Not prefix-friendly: when
    the text is sent off, nothing of it is cached but what was computed for that prompt."""

    @property
    def is_prefix_friendly(self) -> bool:
        """Whether thoughts and answer share one growing prefix."""
        return self is Format.UA_SPI


@dataclass(frozen=True, slots=True)
class Noted:
    """A thought about the text up to a place."""

    end: int
    """Code points that it is about."""
    thought: Thought
    num_tokens: int
    """What it took."""


@dataclass(frozen=True, slots=True)
class MindPrompt:
    """Makes the prompts of one session.

    Args:
        form: How they are laid out.
        instructions: The session's own system prompt.
        actions: What the model may do while the text is written.
    """

    form: Format = Format.UA_SPI
    instructions: str | None = None
    actions: tuple[Kind, ...] = BASIC_ACTIONS

    def thinking(self, history: Sequence[Message], noted: Sequence[Noted], text: str) -> list[Any]:
        """Return the messages that ask for a thought about the end of `text`.

        Args:
            history: The conversation before.
            noted: What was thought about heads of `text`, shortest first.
            text: What has been written, up to where it was cut.
        """
        return [self._system(is_complete=False), *history, *self._turns(noted, text)]

    def answering(
        self, history: Sequence[Message], noted: Sequence[Noted], text: str, *, is_complete: bool
    ) -> list[Any]:
        """Return the messages that ask for the answer.

        Args:
            is_complete: False makes what is computed ahead of it: nothing marks the end.
        """
        has_thoughts = any(one.thought.text for one in noted)
        if self.form is Format.TWO_PROMPTS and not has_thoughts:
            return [*self._own(), *history, {"role": "user", "content": text}]
        turns = self._turns(noted, text)
        if is_complete and self.form is not Format.TWO_PROMPTS:
            turns[-1]["content"] += f" {_END}"
        return [self._system(is_complete=True), *history, *turns]

    def _own(self) -> list[Message]:
        return [{"role": "system", "content": self.instructions}] if self.instructions else []

    def _system(self, *, is_complete: bool) -> Message:
        actions = "\n".join(f"- {_ACTIONS[kind]}" for kind in self.actions)
        template = _BOTH
        if self.form is Format.TWO_PROMPTS:
            template = _ANSWERING if is_complete else _TYPING
        ours = template.format(actions=actions, end=_END)
        content = f"{self.instructions}\n\n{ours}" if self.instructions else ours
        return {"role": "system", "content": content}

    def _turns(self, noted: Sequence[Noted], text: str) -> list[Message]:
        shown = [one for one in noted if one.thought.text]
        if not shown:
            return [{"role": "user", "content": text}]
        if self.form is Format.UA_PIL:
            end = shown[-1].end
            notes = "\n".join(_line(one.thought) for one in shown)
            return [
                {"role": "user", "content": text[:end]},
                {"role": "assistant", "content": notes},
                {"role": "user", "content": text[end:]},
            ]
        turns: list[Message] = []
        start = 0
        for one in shown:
            turns.append({"role": "user", "content": text[start : one.end]})
            turns.append({"role": "assistant", "content": _line(one.thought)})
            start = one.end
        return [*turns, {"role": "user", "content": text[start:]}]


def _line(thought: Thought) -> str:
    """Return what the model is shown to have said: in the form that it was asked for."""
    return "\n".join(f"action {one.kind}. {one.text}" for one in thought.actions)
