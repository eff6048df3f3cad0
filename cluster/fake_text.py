"""The fake engine's language: words, their token ids, and what it says to a prompt.

A token is a word; in an answer it carries one leading space. Answers draw on a vocabulary of made
up words, some of several bytes a letter; any other word has an id all the same.
"""

from collections.abc import Iterator, Sequence
from zlib import crc32

__all__ = ["Token", "answer", "tokenise"]

Token = tuple[int, str]
"""Id and text."""

_SYLLABLES = (
    *("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "qui", "ro", "su"),
    *("ta", "ve", "wi", "xo", "yu", "za", "bre", "cli", "dro", "flu", "gra", "ple", "tri", "sno"),
    *("né", "日", "🎈"),
)
_VOCABULARY: tuple[Token, ...] = tuple(
    enumerate(f" {first}{second}" for first in _SYLLABLES for second in _SYLLABLES)
)
_IDS = {text[1:]: number for number, text in _VOCABULARY}
_NUM_IDS = 1 << 16


def tokenise(text: str) -> list[int]:
    """Return the ids of a text's words; the same word has the same id everywhere."""
    return [_id(word) for word in text.split()]


def answer(seed: int, prompt: Sequence[int]) -> Iterator[Token]:
    """Yield the endless answer to a prompt."""
    state = crc32(repr((seed, list(prompt))).encode())
    while True:
        # Knuth and Lewis's generator: its top ten bits, one of 1,024 words, do not loop.
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        yield _VOCABULARY[state >> 22]


def _id(word: str) -> int:
    known = _IDS.get(word)
    if known is not None:
        return known
    return len(_VOCABULARY) + crc32(word.encode(errors="surrogatepass")) % (
        _NUM_IDS - len(_VOCABULARY)
    )
