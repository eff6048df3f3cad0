"""How prompts are typed: evenly, in blocks that are pasted, or by somebody who errs and pauses.

A script is a list of strokes that ends in exactly the text, with its times in seconds of whoever
types. Only arithmetic and dice.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

__all__ = [
    "ARMS",
    "EDITED",
    "PASTED",
    "TYPED",
    "TYPIST",
    "Stroke",
    "compressed",
    "later",
    "script",
    "seconds",
    "sentences",
    "tail",
]

TYPIST, PASTED, EDITED = "typist", "pasted", "240 + late edit"
_SPEEDS = {"240": 240.0, "1200": 1200.0}
"""Characters a minute: as in LiveMind's paper, and five times that."""
TYPED = (*_SPEEDS, TYPIST)
ARMS = (*TYPED, PASTED)

_KEY_S, _KEY_SPREAD = 0.18, 0.45
"""Median time between two keys of the typist, and the deviation of its logarithm."""
_TYPO, _SLIP, _HESITATION, _THOUGHT = 0.04, 0.1, 0.05, 0.5
"""How often: a word has a wrong letter, a sentence a wrong word that is noticed at its end; a pause
follows a word, a longer one a sentence."""
_LETTERS = "etaoinshrdlu"
_LATE = 0.9
"""Where the late edit is, as a share of the text."""
_WORD = re.compile(r"\S+\s*|\s+")
_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)")


@dataclass(frozen=True, slots=True)
class Stroke:
    """One key, or one paste: puts text in the place of the code points from `start` to `end`."""

    wait_s: float
    """Since the stroke before."""
    start: int
    end: int
    text: str


def script(arm: str, text: str, seed: int) -> list[Stroke]:
    """Return the strokes of an arm, always the same for a seed."""
    draw = random.Random(f"{arm} {seed}")  # noqa: S311 - a script, not a secret
    if arm == TYPIST:
        return _erring(text, draw)
    if arm == PASTED:
        return _pasting(text, draw)
    if arm == EDITED:
        return _editing(text)
    return _evenly(text, 60 / _SPEEDS[arm])


def compressed(strokes: Sequence[Stroke], scale: float) -> list[Stroke]:
    """Return the same strokes with all times between them divided by `scale`."""
    return [replace(stroke, wait_s=stroke.wait_s / scale) for stroke in strokes]


def later(strokes: Sequence[Stroke], num_chars: int) -> list[Stroke]:
    """Return the same strokes behind so many characters that are there already."""
    return [
        replace(stroke, start=stroke.start + num_chars, end=stroke.end + num_chars)
        for stroke in strokes
    ]


def seconds(strokes: Sequence[Stroke]) -> float:
    """How long it takes to type."""
    return sum(stroke.wait_s for stroke in strokes)


def tail(strokes: Sequence[Stroke], within_s: float) -> int:
    """Return the first stroke of those that are typed within so long before the last one."""
    before_s = accumulate((stroke.wait_s for stroke in reversed(strokes)), initial=0.0)
    num = sum(1 for left_s in before_s if left_s <= within_s)
    return max(0, len(strokes) - max(1, num))


class _Hands:
    """Keeps the text's length while strokes are made."""

    def __init__(self) -> None:
        self.strokes: list[Stroke] = []
        self.length = 0
        self._rest_s = 0.0

    def rest(self, wait_s: float) -> None:
        """Put the next stroke off."""
        self._rest_s += wait_s

    def put(self, wait_s: float, text: str, start: int | None = None, end: int = 0) -> None:
        """Add text at the end, or in the place of what is from `start` to `end`."""
        at = (self.length, self.length) if start is None else (start, end)
        self.strokes.append(Stroke(self._rest_s + wait_s, *at, text))
        self.length += len(text) - (at[1] - at[0])
        self._rest_s = 0.0


def _evenly(text: str, key_s: float) -> list[Stroke]:
    return [Stroke(key_s, at, at, letter) for at, letter in enumerate(text)]


def _pasting(text: str, draw: random.Random) -> list[Stroke]:
    """A paragraph at a time, with a few seconds to fetch each."""
    hands = _Hands()
    for block in re.findall(r"(?s).+?(?:\n\n|$)", text):
        hands.put(draw.uniform(2, 8), block)
    return hands.strokes


def _editing(text: str) -> list[Stroke]:
    """Evenly, with a wrong word in the last tenth that is put right at the very end."""
    key_s = 60 / _SPEEDS["240"]
    words = [match for match in re.finditer(r"\w+", text) if match.start() >= _LATE * len(text)]
    if not words:
        return _evenly(text, key_s)
    start, end = words[0].span()
    right, wrong = text[start:end], words[0].group()[::-1] + "x"
    hands = _Hands()
    for letter in text[:start] + wrong + text[end:]:
        hands.put(key_s, letter)
    hands.rest(1.0)
    hands.put(key_s, right[0], start, start + len(wrong))
    for at, letter in enumerate(right[1:], start + 1):
        hands.put(key_s, letter, at, at)
    return hands.strokes


def _erring(text: str, draw: random.Random) -> list[Stroke]:
    hands = _Hands()

    def key_s() -> float:
        return _KEY_S * draw.lognormvariate(0, _KEY_SPREAD)

    for sentence in sentences(text):
        words: list[str] = _WORD.findall(sentence)
        slip = draw.randrange(len(words)) if draw.random() < _SLIP and len(words) > 1 else None
        slipped = 0, 0
        for number, word in enumerate(words):
            if number == slip:
                wrong = "".join(reversed(word.strip())) + "y"
                slipped = hands.length, hands.length + len(wrong)
                word = wrong + word[len(word.rstrip()) :]  # noqa: PLW2901
            elif draw.random() < _TYPO and len(word.strip()) > 1:
                _mistype(hands, word, draw)
            _type(hands, word, key_s)
            if draw.random() < _HESITATION:
                hands.rest(draw.uniform(0.5, 2))
        if slip is not None:
            _put_right(hands, words[slip].strip(), slipped, draw)
        if draw.random() < _THOUGHT:
            hands.rest(draw.uniform(1, 4))
    return hands.strokes


def _type(hands: _Hands, word: str, key_s: Callable[[], float]) -> None:
    for letter in word:
        hands.put(key_s(), letter)


def _mistype(hands: _Hands, word: str, draw: random.Random) -> None:
    """Type a few letters of which one is wrong, see it, and take them back; the word follows."""
    right = word.strip()
    at = draw.randrange(1, len(right))
    typed = right[:at] + draw.choice(_LETTERS) + right[at : at + draw.randint(0, 3)]
    for letter in typed:
        hands.put(_KEY_S, letter)
    hands.rest(draw.uniform(0.2, 0.6))
    for _ in typed:
        hands.put(0.12, "", hands.length - 1, hands.length)


def _put_right(hands: _Hands, right: str, wrong: tuple[int, int], draw: random.Random) -> None:
    """Go back to a wrong word and type another over it."""
    start, end = wrong
    hands.rest(draw.uniform(0.5, 1.5))
    hands.put(_KEY_S, right[:1], start, end)
    for at, letter in enumerate(right[1:], start + 1):
        hands.put(_KEY_S, letter, at, at)
    hands.rest(0.3)


def sentences(text: str) -> list[str]:
    """Cut a text behind every sentence; one that does not end counts too."""
    found, words = [], ""
    for word in _WORD.findall(text):
        words += word
        if _SENTENCE_END.search(word):
            found.append(words)
            words = ""
    return [*found, words] if words else found
