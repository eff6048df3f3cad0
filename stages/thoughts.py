"""What a model says while a prompt is being written, read tolerantly.

It is asked for a line such as `action inference. The train needs 3 hours.`; small models write it
in many ways, or not at all: then all that they said is an inference.
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby

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
    further: "tuple[Thought, ...]" = ()
    """What it did in the same breath, action by action; nothing in it is `wait`."""

    @property
    def actions(self) -> "tuple[Thought, ...]":
        """Each action by itself, in the order in which the model took them."""
        return replace(self, further=()), *self.further


def parse(said: str, actions: tuple[Kind, ...] = BASIC_ACTIONS) -> Thought:
    """Read what a model has said.

    Several actions stay apart, but what follows on one of its own kind is joined to it. Only if
    none of them says anything is it `wait`. An action that was not offered, and what is said before
    the first, count as an inference.
    """
    whole = said.strip()
    found = [match for match in _LINE.finditer(whole) if _is_action(match)]
    if not found:
        return Thought(Kind.INFERENCE, whole) if whole else Thought(Kind.WAIT, "")
    head = whole[: found[0].start()].strip()
    said_so = [(Kind.INFERENCE, head)] if head else []
    ends = [*(match.start() for match in found[1:]), len(whole)]
    for match, end in zip(found, ends, strict=True):
        word = match[1].lower()
        kind = _SPELLINGS.get(word) or Kind(word)
        text = whole[match.end() : end].strip()
        if kind is not Kind.WAIT and text:
            said_so.append((kind if kind in actions else Kind.INFERENCE, text))
    thoughts = [
        Thought(kind, "\n".join(text for _, text in same))
        for kind, same in groupby(said_so, key=lambda one: one[0])
    ]
    if not thoughts:
        return Thought(Kind.WAIT, "")
    return replace(thoughts[0], further=tuple(thoughts[1:]))


def _is_action(match: re.Match[str]) -> bool:
    """Whether a line names an action, and does not merely begin with such a word."""
    if _NAMED.search(match[0]):
        return True
    rest = match[0][match[0].lower().index(match[1].lower()) + len(match[1]) :]
    return bool(rest.strip()) or match.end() == len(match.string)
