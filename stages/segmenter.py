"""Where a text that is still being written can be cut: after sentences, or after their clauses.

Sentences are `sentencex`'s (some 300 languages, offline, rules only). What it leaves long, such as
text of scripts that mark no sentences, is cut at white space.
"""

import unicodedata
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from itertools import chain

from headstart.stages.language import is_loaded, language_of

__all__ = ["AUTO", "Granularity", "Segmenter", "ends_a_phrase", "segment_ends", "segmenter"]

Segmenter = Callable[[str], list[int]]
"""Returns where each segment of a text ends, in code points; the last is the text's end."""

AUTO = "auto"
"""In place of a language: it is told by the text."""
_UNKNOWN = "en"
"""What is taken for the language of a text that does not tell."""
_CLAUSE_MARKS = frozenset(",;:，；：、،؛·᠂፣፥፤།၊៖᛫")  # noqa: RUF001
_MIN_CHARS = 10
"""Shorter clauses are joined to the next: `however,` gives nobody anything to think about."""
_MAX_CHARS = 400
"""Longer segments are cut where there is white space."""
_MOST_CHARS = 4096
"""Longer ones are cut, whatever there is."""


class Granularity(StrEnum):
    """How fine a text is cut."""

    SENTENCE = "sentence"
    CLAUSE = "clause"


def segmenter(granularity: Granularity, language: str = "en") -> Segmenter:
    """Return a segmenter.

    Args:
        language: ISO 639-1; what abbreviations look like depends on it. Unknown ones are cut by
            the rules that most languages share. With `AUTO`, one segmenter belongs to one text.
    """
    if language == AUTO:
        return _Auto(granularity)
    return partial(segment_ends, granularity=granularity, language=language)


class _Auto:
    """Cuts each text by the rules of its own language; what is too short to tell by the latest's.

    Until the model of languages is there, all are taken for English.
    """

    def __init__(self, granularity: Granularity) -> None:
        self._granularity = granularity
        self._language = _UNKNOWN

    def __call__(self, text: str) -> list[int]:
        if is_loaded():
            self._language = language_of(text) or self._language
        return segment_ends(text, self._granularity, self._language)


def segment_ends(
    text: str, granularity: Granularity = Granularity.SENTENCE, language: str = "en"
) -> list[int]:
    """Return where each segment of `text` ends; nothing for no text."""
    if not text:
        return []
    ends: list[int] = []
    start = 0
    for end in _sentence_ends(text, language):
        if granularity is Granularity.CLAUSE:
            ends += _clause_ends(text, start, end)
        ends += _pieces(text, ends[-1] if ends else 0, end)
        start = end
    return ends


def ends_a_phrase(text: str) -> bool:
    """Whether `text` ends with a mark of punctuation, and white space at most."""
    end = text.rstrip()[-1:]
    return bool(end) and unicodedata.category(end)[0] == "P"


def _sentence_ends(text: str, language: str) -> list[int]:
    import sentencex  # type: ignore[import-untyped]  # of the server's install, not of a client's

    ends: list[int] = []
    for boundary in sentencex.get_sentence_boundaries(language, _plain(text)):
        end = int(boundary["end_index"])
        if (ends[-1] if ends else 0) < end < len(text):
            ends.append(end)
    return [*ends, len(text)]


def _plain(text: str) -> str:
    """Return a text of as many code points that the library can take.

    Half a surrogate pair is no Unicode text. White space of several bytes in front of a full stop
    makes the library panic (1.0.32), and what it panics over it writes to standard error.
    """
    if text.isascii():
        return text
    return "".join(map(_plain_char, text))


def _plain_char(char: str) -> str:
    if "\ud800" <= char <= "\udfff":
        return "?"
    return " " if char.isspace() and char != "\n" else char


def _clause_ends(text: str, start: int, end: int) -> list[int]:
    ends: list[int] = []
    for index in range(start, end - 1):
        if text[index] not in _CLAUSE_MARKS or index + 1 - start < _MIN_CHARS:
            continue
        if text[index - 1].isdigit() and text[index + 1].isdigit():
            continue  # 1,000 and 12:30
        after = index + 1
        while after < end and text[after].isspace():
            after += 1
        if after < end:
            ends.append(after)
            start = after
    return ends


def _pieces(text: str, start: int, end: int) -> list[int]:
    """Cut what is too long; return the ends, the last of which is `end`."""
    ends: list[int] = []
    while end - start > _MAX_CHARS and (start := _piece_end(text, start, end)) < end:
        ends.append(start)
    return [*ends, end]


def _piece_end(text: str, start: int, end: int) -> int:
    """Return where the first piece of what is too long ends."""
    last = min(end, start + _MOST_CHARS)
    near, far = range(start + _MAX_CHARS, start, -1), range(start + _MAX_CHARS + 1, last)
    return next((at + 1 for at in chain(near, far) if text[at].isspace()), last)
