"""What a model says while a prompt is being written, read tolerantly.

It is asked for a line such as `action inference. The train needs 3 hours.`; small models write it
in many ways, or not at all: then all that they said is an inference.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["ALL_ACTIONS", "BASIC_ACTIONS", "Kind", "Thought", "parse"]


class Kind(StrEnum):
    """What a thought is; the words are those that the model is asked to use."""

    INFERENCE = "inference"
    """A result that follows from the text so far."""
    WAIT = "wait"
    """Nothing can be said yet."""
    BACKGROUND = "background"
    """What the text is about."""
    HYPOTHESISE = "hypothesise"
    """What the text may go on to ask, and what would follow."""


BASIC_ACTIONS = (Kind.INFERENCE, Kind.WAIT)
"""Those of LiveMind's second version."""
ALL_ACTIONS = tuple(Kind)
"""Those of its first."""

_SPELLINGS = {"hypothesize": Kind.HYPOTHESISE, "hypothesis": Kind.HYPOTHESISE}
_WORDS = "|".join([*ALL_ACTIONS, *_SPELLINGS])
_LINE = re.compile(
    rf"^[\s>*_`#\-\"'(\[]*(?:action)?[\s:.\-*_`]*({_WORDS})\b[ \t]*[.:,;\-–—*_`)\]\"'!]*[ \t*_`]*",  # noqa: RUF001
    re.IGNORECASE | re.MULTILINE,
)
_NAMED = re.compile(r"action\W{0,4}\w", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Thought:
    """One thing that the model has thought."""

    kind: Kind
    text: str
    """Without the action's name; empty for `wait`."""


def parse(said: str, actions: tuple[Kind, ...] = BASIC_ACTIONS) -> Thought:
    """Read what a model has said.

    Several actions become one: whatever they say is joined, and only if none of them says anything
    is it `wait`. An action that was not offered counts as an inference.
    """
    whole = said.strip()
    found = [match for match in _LINE.finditer(whole) if _is_action(match)]
    if not found:
        return Thought(Kind.INFERENCE, whole) if whole else Thought(Kind.WAIT, "")
    kinds: list[Kind] = []
    texts = [whole[: found[0].start()].strip()] if found[0].start() else []
    ends = [*(match.start() for match in found[1:]), len(whole)]
    for match, end in zip(found, ends, strict=True):
        word = match[1].lower()
        kind = _SPELLINGS.get(word) or Kind(word)
        text = whole[match.end() : end].strip()
        if kind is not Kind.WAIT and text:
            kinds.append(kind if kind in actions else Kind.INFERENCE)
            texts.append(text)
    texts = [text for text in texts if text]
    if not texts:
        return Thought(Kind.WAIT, "")
    return Thought(kinds[0] if kinds else Kind.INFERENCE, "\n".join(texts))


def _is_action(match: re.Match[str]) -> bool:
    """Whether a line names an action, and does not merely begin with such a word."""
    if _NAMED.search(match[0]):
        return True
    rest = match[0][match[0].lower().index(match[1].lower()) + len(match[1]) :]
    return bool(rest.strip()) or match.end() == len(match.string)
