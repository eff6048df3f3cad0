"""Where a text that is still being written can be cut: after sentences, or after their clauses.

Sentences are `sentencex`'s (some 300 languages, offline, rules only). What it leaves long, such as
text of scripts that mark no sentences, is cut at white space.
"""

import unicodedata
from collections.abc import Callable
from enum import StrEnum
from functools import partial

__all__ = ["Granularity", "Segmenter", "ends_a_word", "segment_ends", "segmenter"]

Segmenter = Callable[[str], list[int]]
"""Returns where each segment of a text ends, in code points; the last is the text's end."""

_CLAUSE_MARKS = frozenset(",;:，；：、،؛·᠂፣፥፤།၊៖᛫")  # noqa: RUF001
_MIN_CHARS = 10
"""Shorter clauses are joined to the next: `however,` gives nobody anything to think about."""
_MAX_CHARS = 400
"""Longer segments are cut where there is white space."""


class Granularity(StrEnum):
    """How fine a text is cut."""

    SENTENCE = "sentence"
    CLAUSE = "clause"


def segmenter(granularity: Granularity, language: str = "en") -> Segmenter:
    """Return a segmenter.

    Args:
        language: ISO 639-1; what abbreviations look like depends on it. Unknown ones are cut by
            the rules that most languages share.
    """
    return partial(segment_ends, granularity=granularity, language=language)


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


def ends_a_word(text: str) -> bool:
    """Whether nobody is in the middle of a word at the end of `text`."""
    return bool(text) and unicodedata.category(text[-1])[0] in "PZC"


def _sentence_ends(text: str, language: str) -> list[int]:
    import sentencex  # type: ignore[import-untyped]  # of the server's install, not of a client's

    # Half a surrogate pair is no Unicode text, and is not for a library that takes such.
    sound = text.encode("utf-8", "replace").decode() if _is_torn(text) else text
    ends: list[int] = []
    for boundary in sentencex.get_sentence_boundaries(language, sound):
        end = int(boundary["end_index"])
        if (ends[-1] if ends else 0) < end < len(text):
            ends.append(end)
    return [*ends, len(text)]


def _is_torn(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


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
    while end - start > _MAX_CHARS:
        cut = next((at + 1 for at in range(start + _MAX_CHARS, start, -1) if text[at].isspace()), 0)
        if not cut or cut >= end:
            break
        ends.append(cut)
        start = cut
    return [*ends, end]
