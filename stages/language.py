"""Which language a text is in, for whoever drafts by it."""

import re
from collections import Counter
from collections.abc import Collection, Container, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

__all__ = [
    "MOST_CHARS",
    "MOST_SENTENCES",
    "SPACED_ENDS",
    "TAG",
    "WIDE_ENDS",
    "both_ends",
    "closest",
    "code_of",
    "excerpt",
    "is_loaded",
    "language_of",
    "likely",
    "load",
    "tag_of",
]

TAG = r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*"
"""What names a language in settings and recipes: a code, and maybe a region."""
MOST_CHARS = 4_000
"""Of a text that are looked at: half at its beginning, half at its end."""
MOST_SENTENCES = 32
"""The same: each costs a fraction of a millisecond."""
_CONFIDENCE = 0.5
"""A sentence that is less likely in its likeliest language than in all others together is in none:
it is too short, or a name, or a number."""
_VARIETIES = {"wuu": "zh", "yue": "zh"}
"""Written alike, and drafted alike."""
SPACED_ENDS = ".!?…"
"""Marks that end sentences, where white space follows."""
WIDE_ENDS = "\N{IDEOGRAPHIC FULL STOP}\N{FULLWIDTH EXCLAMATION MARK}\N{FULLWIDTH QUESTION MARK}"
"""The same, whatever follows."""
_ENDS = SPACED_ENDS + WIDE_ENDS
_SENTENCE = re.compile(rf"[^{_ENDS}\n]+[{_ENDS}]*")
_NO_LANGUAGE = "zxx"


def closest(language: str, known: Container[str]) -> str | None:
    """Return the known language tag for a language: its own, or that which it is a variety of."""
    for tag in (language, code_of(language)):
        if tag in known:
            return tag
    return None


def code_of(tag: str) -> str:
    """Return the ISO 639 code that a language tag begins with."""
    return tag.partition("-")[0].lower()


def tag_of(code: str, tags: Collection[str]) -> str:
    """Return which of some tags a code told from a text means, such as `zh-CN` for `zh`.

    Returns:
        The code itself where it is one of them, or none is of that language.
    """
    if code in tags:
        return code
    return min((tag for tag in tags if code_of(tag) == code), default=code)


def load() -> None:
    """Load the model of languages, which takes a second: nobody's text shall wait for that."""
    _identifier()


def is_loaded() -> bool:
    """Whether `language_of` answers at once."""
    return _identifier.cache_info().currsize > 0


def language_of(text: str) -> str | None:
    """Return the ISO 639 code of the language that most of a text is in.

    Texts mix languages: each sentence counts for its own, by its length in bytes, as a character of
    Chinese says more than one of English. What is no language, such as code or numbers, counts for
    none.

    Returns:
        None where no language has half of the text, or it is too short to tell.
    """
    weights: Counter[str] = Counter()
    for sentence in _sentences(text):
        language, confidence = likely(sentence)
        weights[language if confidence >= _CONFIDENCE else ""] += len(sentence.encode())
    if not weights:
        return None
    language, weight = max(weights.items(), key=lambda item: item[1])
    return language if language and 2 * weight >= weights.total() else None


def likely(
    sentence: str, favoured: Mapping[str, float] = MappingProxyType({})
) -> tuple[str, float]:
    """Return a sentence's likeliest language and how likely it is; "" is none, such as code.

    Args:
        favoured: How many times likelier than others some languages are beforehand.
    """
    ranked = _identifier().rank(sentence)
    chances = dict(ranked)
    weighed = {ranked[0][0]: ranked[0][1]}
    weighed |= {each: by * chances.get(each, 0.0) for each, by in favoured.items()}
    best = max(weighed, key=weighed.__getitem__)
    total = 1.0 + sum((by - 1.0) * chances.get(each, 0.0) for each, by in favoured.items())
    counted = _VARIETIES.get(best, best)
    return ("" if counted == _NO_LANGUAGE else counted), weighed[best] / total


def excerpt(text: str) -> str:
    """Return what is looked at of a text."""
    half = MOST_CHARS // 2
    return text if len(text) <= MOST_CHARS else f"{text[:half]}\n{text[-half:]}"


def _sentences(text: str) -> list[str]:
    stripped = (each.strip() for each in _SENTENCE.findall(excerpt(text)))
    return both_ends([each for each in stripped if any(map(str.isalpha, each))])


def both_ends(sentences: Sequence[str]) -> list[str]:
    """Return those that are looked at: half from the beginning, half from the end."""
    if len(sentences) <= MOST_SENTENCES:
        return [*sentences]
    half = MOST_SENTENCES // 2
    return [*sentences[:half], *sentences[-half:]]


@cache
def _identifier() -> Any:
    # Of the server's install, not of a client's.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
