"""Random edits of a text, and what they make of a plain string."""

import random
from dataclasses import dataclass

__all__ = ["Change", "applied", "script"]

_WORDS = ["the", "trains", "leave", "at", "noon", "日本", "🎈", "naïve", "x", "\n", "  ", "end."]


@dataclass(frozen=True, slots=True)
class Change:
    """Replaces the code points from `start` up to `end`."""

    start: int
    end: int
    text: str


def applied(text: str, change: Change) -> str:
    return text[: change.start] + change.text + text[change.end :]


def script(seed: int, num_changes: int) -> tuple[list[Change], str]:
    """Return as many changes, each of which fits, and the text that is left."""
    draw = random.Random(seed)  # not a secret
    text, changes = "", []
    for _ in range(num_changes):
        start = len(text) if draw.random() < 0.7 else draw.randint(0, len(text))
        end = min(len(text), start + (draw.randint(0, 6) if draw.random() < 0.4 else 0))
        if draw.random() < 0.15 and text:  # backspace
            change = Change(len(text) - 1, len(text), "")
        else:
            words = draw.choices(_WORDS, k=draw.randint(0, 4))
            change = Change(start, end, " ".join(words) + draw.choice(["", " "]))
        text = applied(text, change)
        changes.append(change)
    return changes, text
